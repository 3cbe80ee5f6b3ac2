"""What a network learns from in a step: pictures with their captions, noised."""

from typing import NamedTuple

import torch
from torch import Tensor

from backend_gpu.glide.config import UNetConfig
from backend_gpu.glide.schedule import alpha_bars
from backend_gpu.training.low_res import LowRes, noise_like
from backend_gpu.training.ring import Ring

CAPTION_DROPOUT = 0.12  # share of empty captions, for classifier-free guidance


class Batch(NamedTuple):
    """What one step learns from."""

    x_start: Tensor  # (N, 3, H, W) in [-1, 1]
    eps: Tensor  # shaped like x_start
    t: Tensor  # (N,), 0-999
    alpha_bar: Tensor  # (N, 1, 1, 1), at t
    tokens: Tensor  # (N, L) int64
    mask: Tensor  # (N, L), True where a token is real
    enlarged: Tensor | None = None  # shaped like x_start: the low_res of an upsampler


class Batches:
    """Batches of pictures from the ring, each with noise of its own, on the ring's device.

    Args:
        empty: tokens (L,) and mask (L,) of the empty caption, on that device.
        low_res: for an upsampler.
    """

    def __init__(
        self, ring: Ring, config: UNetConfig, empty: tuple[Tensor, Tensor], seed: int, low_res: LowRes | None = None
    ) -> None:
        self.ring, self.empty, self.low_res = ring, empty, low_res
        self.generator = torch.Generator(ring.device).manual_seed(seed)
        self.alpha_bars = torch.tensor(alpha_bars(config.noise_schedule), dtype=torch.float32, device=ring.device)

    def draw(self, number: int, bias: float) -> Batch:
        """A batch of so many pictures with t = 1000 u^bias; nothing here waits for the device."""
        x_start, tokens, mask = self.ring.draw(number, self.generator)
        enlarged = None
        if self.low_res:
            enlarged = self.low_res.enlarged(x_start, tokens, mask, self.generator)
        is_dropped = torch.rand(number, 1, generator=self.generator, device=x_start.device) < CAPTION_DROPOUT
        no_tokens, no_mask = self.empty
        t = draw_timesteps(number, bias, self.generator)
        return Batch(
            x_start=x_start,
            eps=noise_like(x_start, self.generator),
            t=t,
            alpha_bar=self.alpha_bars[t][:, None, None, None],
            tokens=torch.where(is_dropped, no_tokens, tokens),
            mask=torch.where(is_dropped, no_mask, mask),
            enlarged=enlarged,
        )


def draw_timesteps(number: int, bias: float, generator: torch.Generator) -> Tensor:
    """Timesteps (N,) 0-999, one from each of N equal shares of the distribution, shuffled."""
    device = generator.device
    places = torch.randperm(number, generator=generator, device=device)
    shares = (places + torch.rand(number, generator=generator, device=device)) / number
    return (1000 * shares**bias).long().clamp(max=999)
