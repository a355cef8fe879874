"""One file per command of `jointnet evaluate`."""
