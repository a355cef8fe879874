"""Procedural captioned landscapes with depth and normals, each a pure function of its seed."""
