"""What an image of a world shows, and a classifier of it."""
