"""Noise schedules, which of their timesteps a sampler visits, and the coefficients of those steps, all in float64."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Literal

from backend_gpu.glide.config import NoiseSchedule, PredictionType

TIMESTEPS = 1000  # the networks are trained on the integers below
SOLVER_START_OF_COSINE_EPS = 993.0  # Lu et al. stop at 0.9946 of the cosine schedule; eps errors grow 107-fold there


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call of the network: from x_t at alpha_bar to the next visited x at alpha_bar_prev."""

    t: float  # as the network is called
    alpha_bar: float
    alpha_bar_prev: float  # 1.0 where the picture is finished

    def __post_init__(self) -> None:
        if not 0 < self.alpha_bar < self.alpha_bar_prev <= 1:
            raise ValueError(f"a step can't go from alpha_bar {self.alpha_bar} to {self.alpha_bar_prev}")

    @property
    def beta(self) -> float:
        """Share of variance added between the two ends (Nichol & Dhariwal 2021, eq. 19)."""
        return 1 - self.alpha_bar / self.alpha_bar_prev

    @property
    def posterior_variance(self) -> float:
        """Variance of x_prev given x_t and x_start (Ho et al. 2020, eq. 7)."""
        return self.beta * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)


def betas(name: NoiseSchedule) -> tuple[float, ...]:
    """Variance that each timestep adds: linear (Ho et al. 2020) or squared cosine (Nichol & Dhariwal 2021, eq. 17)."""
    if name == "linear":
        first, last = 1e-4, 0.02
        return tuple(first + (last - first) * t / (TIMESTEPS - 1) for t in range(TIMESTEPS))

    def signal(fraction: float) -> float:
        return math.cos((fraction + 0.008) / 1.008 * math.pi / 2) ** 2

    return tuple(min(1 - signal((t + 1) / TIMESTEPS) / signal(t / TIMESTEPS), 0.999) for t in range(TIMESTEPS))


def alpha_bars(name: NoiseSchedule) -> tuple[float, ...]:
    """Share of signal left at every integer timestep."""
    return tuple(accumulate((1 - beta for beta in betas(name)), mul))


def half_log_snr(alpha_bar: float) -> float:
    """Half the log signal-to-noise ratio, the lambda of the DPM-Solver papers; infinite without noise."""
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar)) if alpha_bar < 1 else math.inf


def alpha_bar_at(table: Sequence[float], t: float) -> float:
    """Share of signal left at t, between integers by linear interpolation of the log signal-to-noise ratio."""
    if not 0 <= t <= len(table) - 1:
        raise ValueError(f"timestep {t} is outside 0 to {len(table) - 1}")
    below = math.floor(t)
    if t == below:
        return table[below]
    start, end = half_log_snr(table[below]), half_log_snr(table[below + 1])
    return 1 / (1 + math.exp(-2 * (start + (end - start) * (t - below))))


def steps_at(name: NoiseSchedule, timesteps: Iterable[float]) -> list[Step]:
    """The steps that visit these timesteps of a schedule, noisiest first, and end at the clean picture."""
    visited = sorted(timesteps)
    if not visited:
        raise ValueError("no timesteps to visit")
    if len(set(visited)) < len(visited):
        raise ValueError(f"a timestep is repeated: {visited}")
    table = alpha_bars(name)
    levels = [alpha_bar_at(table, t) for t in visited]
    steps = [
        Step(t=float(t), alpha_bar=level, alpha_bar_prev=level_prev)
        for t, level, level_prev in zip(visited, levels, [1.0, *levels], strict=False)
    ]
    return steps[::-1]


def space_timesteps(total: int, spacing: int | Literal["fast27"]) -> list[int]:
    """Choose integer timesteps out of `total`, ascending.

    Args:
        total: number of timesteps of the whole schedule.
        spacing: how many, evenly spaced; "fast27" is GLIDE's choice for its upsampler.

    Raises: ValueError where that is not possible.
    """
    if spacing == "fast27":
        *most, _ = _in_sections(total, (10, 10, 3, 2, 2))
        return [*most, total - 3]  # a less noisy start
    return _in_sections(total, (spacing,))


def _in_sections(total: int, counts: Sequence[int]) -> list[int]:
    """Divide the schedule into equal sections with so many timesteps each."""
    if min(counts) < 1:
        raise ValueError(f"cannot visit {min(counts)} steps, at least 1")
    size_per, extra = divmod(total, len(counts))
    timesteps: list[int] = []
    start = 0
    for index, count in enumerate(counts):
        size = size_per + (index < extra)
        if size < count:
            raise ValueError(f"cannot divide section of {size} steps into {count}")
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0  # summed up, not multiplied: that decides how halves round
        for _ in range(count):
            timesteps.append(start + round(position))
            position += stride
        start += size
    return timesteps


def solver_timesteps(count: int, noise_schedule: NoiseSchedule, prediction: PredictionType) -> list[float]:
    """Evenly spaced, mostly fractional timesteps for an ODE solver, descending; the jump after the last ends at t = 0.

    A network that predicts eps starts the cosine schedule a little later: at t = 999 alpha_bar is 2.4e-9, so an error
    in eps comes back 20291-fold in x_start. Predicting x_start has no such division.
    """
    if count < 1:
        raise ValueError(f"cannot visit {count} steps, at least 1")
    fragile = noise_schedule == "squared_cosine" and prediction == "eps"
    start = SOLVER_START_OF_COSINE_EPS if fragile else TIMESTEPS - 1.0
    return [start * (count - index) / count for index in range(count)]
