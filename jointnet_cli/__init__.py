"""JointNet: joint diffusion of RGB images and dense modalities such as depth and normals (ICLR 2024)."""

__version__ = "0.1.0"
