"""Depth and normals predicted by other models."""
