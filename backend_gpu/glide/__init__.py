"""GLIDE (Nichol et al. 2021, arXiv 2112.10741): text-conditional diffusion at 64x64 and its upsampler to 256x256."""
