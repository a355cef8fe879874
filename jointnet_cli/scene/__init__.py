"""3D scenes of images with depth: meshes, an interactive viewer, stereo and clips."""
