"""Classifier-free guidance (Ho & Salimans 2022) as a wrapper around the network."""

import torch
from torch import Tensor

from backend_gpu.glide.samplers import DenoisingModel, Prediction


def with_guidance(model: DenoisingModel, guidance_scale: Tensor) -> DenoisingModel:
    """Push eps from the unconditional towards, and for scales over 1 past, the conditional prediction.

    Args:
        model: takes a batch of 2 N, whose first half sees the prompts and whose second half the empty or negative ones.
        guidance_scale: one per picture, (N,); 1 is no guidance.

    Returns: a model for N pictures; the variance is that of the conditional half.
    """
    if guidance_scale.ndim != 1:
        raise ValueError(f"guidance_scale has shape {tuple(guidance_scale.shape)}, not one number per picture")

    def guided(x_t: Tensor, t: float) -> Prediction:
        both = model(torch.cat([x_t, x_t]), t)
        cond, uncond = both.eps.chunk(2)
        scale = guidance_scale.to(cond)[:, None, None, None]
        return Prediction(uncond + scale * (cond - uncond), both.variance_mix.chunk(2)[0])

    return guided
