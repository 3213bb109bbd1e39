"""Features, FID and CLIP."""
