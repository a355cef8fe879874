"""Images from the web: fetch, decode, write into shards."""
