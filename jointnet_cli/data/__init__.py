"""Training data: procedural worlds, and webdataset shards in and out."""
