"""Files: images, depth, EXR, meshes and the record of how each was made."""
