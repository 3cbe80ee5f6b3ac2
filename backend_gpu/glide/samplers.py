"""Samplers: generators from noise to a picture that see the network only as (x_t, t) -> eps and variance.

They say nothing of gradients: who runs them chooses whether torch keeps any.
Formulas in Song et al. 2020 write alpha for what is alpha_bar here. Coefficients are Python floats (float64); tensors
keep the dtype of the noise, which should be float32.
"""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor

from backend_gpu.glide.schedule import Step, half_log_snr

Constrain = Callable[[Tensor], Tensor]
DrawNoise = Callable[[], Tensor]
# Yields (steps done, estimate of x_start) after each step; returns the sample in [-1, 1], shaped like the noise.
Trajectory = Generator[tuple[int, Tensor], None, Tensor]


class Prediction(NamedTuple):
    """What the network says about x_t."""

    eps: Tensor  # (N, C, H, W)
    variance_mix: Tensor  # (N, C, H, W) in [-1, 1], between the posterior's log variance and beta's; only DDPM reads it


class DenoisingModel(Protocol):
    """A network with text, guidance and dtype already wrapped in."""

    def __call__(self, x_t: Tensor, t: float, /) -> Prediction: ...


def clip(x_start: Tensor) -> Tensor:
    """Keep pixels in [-1, 1]."""
    return x_start.clamp(-1, 1)


def keeping_known(known: Tensor, mask: Tensor) -> Constrain:
    """For inpainting: clip, then overwrite with the known pixels.

    Args:
        known: pictures in [-1, 1], (N, C, H, W).
        mask: (N, 1, H, W), 1 = keep the known pixel.
    """
    return lambda x_start: clip(x_start) * (1 - mask) + known * mask


@dataclass(frozen=True, kw_only=True)
class SamplingRun:
    """What every sampler needs besides the network."""

    noise: Tensor  # unit Gaussian, (N, C, H, W)
    steps: Sequence[Step]  # noisiest first
    constrain: Constrain = clip  # applied to each estimate of x_start

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a sampler needs at least one step")


def sample_ddpm(model: DenoisingModel, run: SamplingRun, draw_noise: DrawNoise) -> Trajectory:
    """Denoise by ancestral sampling (Ho et al. 2020, alg. 2), variance learned (Nichol & Dhariwal 2021, eq. 15).

    Args:
        draw_noise: unit Gaussian shaped like the noise; called once per step but the last.
    """
    x = run.noise
    for done, step in enumerate(run.steps, 1):
        prediction = model(x, step.t)
        x_start = run.constrain(_x_start(x, prediction.eps, step))
        x = posterior_mean(x, x_start, step)
        if step.alpha_bar_prev < 1:
            x = x + torch.exp(0.5 * posterior_log_variance(prediction.variance_mix, step)) * draw_noise()
        yield done, x_start
    return x


def sample_ddim(model: DenoisingModel, run: SamplingRun) -> Trajectory:
    """Denoise by DDIM without noise (Song et al. 2020, eq. 12), with eps taken from the constrained x_start."""
    x = run.noise
    for done, step in enumerate(run.steps, 1):
        x_start = run.constrain(_x_start(x, model(x, step.t).eps, step))
        # x_prev = sqrt(alpha_bar_prev) x_start + sqrt(1 - alpha_bar_prev) eps, with eps written out
        x_weight = math.sqrt((1 - step.alpha_bar_prev) / (1 - step.alpha_bar))
        x = (math.sqrt(step.alpha_bar_prev) - x_weight * math.sqrt(step.alpha_bar)) * x_start + x_weight * x
        yield done, x_start
    return x


def sample_dpmpp_2m(model: DenoisingModel, run: SamplingRun) -> Trajectory:
    """Denoise by DPM-Solver++(2M), first-order in the first and last step (Lu et al. 2022, 2211.01095, alg. 2)."""
    x = run.noise
    x_start_before: Tensor | None = None
    h_before = 0.0
    for done, step in enumerate(run.steps, 1):
        x_start = run.constrain(_x_start(x, model(x, step.t).eps, step))
        h = half_log_snr(step.alpha_bar_prev) - half_log_snr(step.alpha_bar)
        extrapolated = x_start
        if x_start_before is not None and done < len(run.steps):
            extrapolated = x_start + (h / (2 * h_before)) * (x_start - x_start_before)
        x_weight = math.sqrt((1 - step.alpha_bar_prev) / (1 - step.alpha_bar))
        x = x_weight * x - math.sqrt(step.alpha_bar_prev) * math.expm1(-h) * extrapolated
        x_start_before, h_before = x_start, h
        yield done, x_start
    return x


def last_sample(trajectory: Trajectory) -> Tensor:
    """The sample that a trajectory ends at, for those who don't look at its steps."""
    while True:
        try:
            next(trajectory)
        except StopIteration as end:
            return cast(Tensor, end.value)


def posterior_mean(x_t: Tensor, x_start: Tensor, step: Step) -> Tensor:
    """Mean of x_prev given x_t and x_start (Ho et al. 2020, eq. 7)."""
    x_start_weight = step.beta * math.sqrt(step.alpha_bar_prev) / (1 - step.alpha_bar)
    x_weight = (1 - step.alpha_bar_prev) * math.sqrt(1 - step.beta) / (1 - step.alpha_bar)
    return x_start_weight * x_start + x_weight * x_t


def posterior_log_variance(variance_mix: Tensor, step: Step) -> Tensor:
    """Learned log variance of x_prev (Nichol & Dhariwal 2021, eq. 15), for a step that does not end at the picture."""
    share = (variance_mix + 1) / 2
    return share * math.log(step.beta) + (1 - share) * math.log(step.posterior_variance)


def _x_start(x_t: Tensor, eps: Tensor, step: Step) -> Tensor:
    """Solve x_t = sqrt(alpha_bar) x_start + sqrt(1 - alpha_bar) eps; divided last, as 1/sqrt(alpha_bar) may be 2e4."""
    return (x_t - math.sqrt(1 - step.alpha_bar) * eps) / math.sqrt(step.alpha_bar)
