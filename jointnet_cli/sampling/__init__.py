"""Joint denoising of a canvas, with known regions per modality, seen through tiles."""
