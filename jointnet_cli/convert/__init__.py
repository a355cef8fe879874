"""Images and maps from one convention and format to another."""
