"""Shards of samples: write, find, read, stream."""
