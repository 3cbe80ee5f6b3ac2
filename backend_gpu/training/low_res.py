"""What the upsampler learns from: small pictures with the faults that the base model's have."""

import math
import random

import torch
import torch.nn.functional as F
from torch import Tensor

from backend_gpu.glide.guidance import with_guidance
from backend_gpu.glide.pipeline import denoiser
from backend_gpu.glide.samplers import SamplingRun, last_sample, sample_ddim
from backend_gpu.glide.schedule import steps_at
from backend_gpu.glide.unet import UNet
from backend_gpu.training.device import has_bfloat16

REPAINTED = 0.7  # share of the batches that the base model has painted again
REPAINTED_FROM = (50, 450)  # timesteps it starts from: up to there the picture stays where it was
REPAINTED_GUIDANCE = 2.5
SOFTENED = 0.5  # share of the others
MOST_NOISE = 0.06


class LowRes:
    """Small pictures made of whole ones, each batch in one way.

    Args:
        base: the trained base model.
        empty: tokens (L,) and mask (L,) of the empty caption, on its device.
    """

    def __init__(self, base: UNet, empty: tuple[Tensor, Tensor], seed: int) -> None:
        self.base, self.empty = base, empty
        self.rng = random.Random(seed)

    def enlarged(self, pictures: Tensor, tokens: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """What the upsampler reads of pictures (N, 3, H, W) in [-1, 1] beside their noise, shaped like them.

        Args:
            tokens: of their captions, (N, L), as are the masks; the base model paints what they say.
        """
        low_res = F.avg_pool2d(pictures, 4)
        if self.rng.random() < REPAINTED:
            low_res = self._repainted(low_res, tokens, mask, generator)
        elif self.rng.random() < SOFTENED:
            softened = F.avg_pool2d(F.pad(low_res, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
            low_res = torch.lerp(low_res, softened, self.rng.random() * 0.7)
        low_res = low_res + noise_like(low_res, generator) * self.rng.random() * MOST_NOISE
        return F.interpolate(low_res, scale_factor=4, mode="bilinear")

    def _repainted(self, pictures: Tensor, tokens: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Pictures as the base model draws them, starting from noised true ones (SDEdit, Meng et al. 2021)."""
        number, device = len(pictures), pictures.device
        first = self.rng.uniform(*REPAINTED_FROM)
        count = 1 + int(first // 100)
        steps = steps_at(self.base.config.noise_schedule, (first * (step + 1) / count for step in range(count)))
        with torch.autocast(device.type, torch.bfloat16, has_bfloat16(device)), torch.inference_mode():
            no_tokens, no_mask = (part.expand(number, -1) for part in self.empty)
            text = self.base.encode_text(torch.cat([tokens, no_tokens]), torch.cat([mask, no_mask]))
            alpha_bar = steps[0].alpha_bar
            x_t = math.sqrt(alpha_bar) * pictures + math.sqrt(1 - alpha_bar) * noise_like(pictures, generator)
            guidance_scale = torch.full((number,), REPAINTED_GUIDANCE, device=device)
            model = with_guidance(denoiser(self.base, text), guidance_scale)
            return last_sample(sample_ddim(model, SamplingRun(noise=x_t, steps=steps)))


def noise_like(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Unit Gaussian noise, shaped like pictures and where they are."""
    return torch.randn(pictures.shape, generator=generator, device=pictures.device)
