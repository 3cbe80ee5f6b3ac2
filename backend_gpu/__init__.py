"""The GPU service: GLIDE, its queue and its HTTP faces."""
