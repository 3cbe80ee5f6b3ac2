"""What is trained and how: the shapes of both networks, and the course that their training takes.

Renderers read this too, so it needs no torch. A share of 0 to 1, `done`, is how much of a plan's minutes is over.
"""

from dataclasses import dataclass

from backend_gpu.glide.config import TextConfig, UNetConfig
from backend_gpu.training.scenes import Mix

TEXT_CONTEXT = 24  # tokens: the longest caption of the grammar with the embedded table's concepts has 23
PICTURES_PER_STEP = 64  # the "steps" in the weights' metadata: the first versions' batches, whatever a batch is now
FIRST_CONCEPTS = 64
ALL_CONCEPTS_AFTER = 0.08
EARLIER_RATE = 0.3  # share of the peak rates for a network that starts from an earlier model's weights


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The training of one network."""

    title: str  # for people
    minutes: float  # of training in all, over all resumptions; as the shipped weights had them
    batch_size: int  # on a GPU
    cpu_batch_size: int
    side: int  # of the pictures
    muon_rate: float  # both are peaks
    adamw_rate: float
    warm_steps: int  # in which the rates rise
    timestep_bias: tuple[float, float]  # of both halves; t = 1000 u^bias: below 1 trains more on noisy pictures
    has_lessons: bool  # begins with a few concepts and the simple forms
    ring_slots: int  # of half a batch each, kept on the device to draw from
    seed: int = 0

    def batch_size_on(self, device_type: str) -> int:
        """Pictures in a step, where nobody says otherwise."""
        return self.cpu_batch_size if device_type == "cpu" else self.batch_size

    def rate_at(self, done: float, steps: int) -> float:
        """The share of the peak learning rates: it rises, stays, and falls to 1% in the second half."""
        return min(1.0, (steps + 1) / self.warm_steps) * min(1.0, max(0.01, (1 - done) / 0.5))

    def bias_at(self, done: float) -> float:
        """The exponent in t = 1000 u^bias."""
        return self.timestep_bias[done >= 0.5]


BASE_PLAN = Plan(
    title="base model (1 of 2)",
    minutes=5,
    batch_size=512,
    cpu_batch_size=64,
    side=64,
    muon_rate=0.02,
    adamw_rate=1.5e-3,
    warm_steps=200,
    timestep_bias=(0.6, 0.75),
    has_lessons=True,
    ring_slots=256,
)
UPSAMPLER_PLAN = Plan(
    title="upsampler (2 of 2)",
    minutes=2,
    batch_size=96,
    cpu_batch_size=8,
    side=256,
    muon_rate=0.02,
    adamw_rate=1.2e-3,
    warm_steps=100,
    timestep_bias=(1.0, 1.0),
    has_lessons=False,
    ring_slots=128,
)


def base_config(words: int) -> UNetConfig:
    """The mini base model of that many words: 64x64, in patches of 2."""
    return UNetConfig(
        num_channels=64,
        channel_mult=(1, 2, 3),
        num_res_blocks=1,
        attention_resolutions=(16, 8),
        text=TextConfig(vocab_size=words + 2, context=TEXT_CONTEXT, width=192, layers=4, heads=3),
        patch_size=2,
        prediction="x_start",
    )


def upsampler_config(words: int) -> UNetConfig:
    """The mini upsampler of that many words: to 256x256, in patches of 4."""
    return UNetConfig(
        image_size=256,
        in_channels=6,
        num_channels=64,
        channel_mult=(1, 1, 2, 2),
        num_res_blocks=1,
        attention_resolutions=(8,),
        text=TextConfig(vocab_size=words + 2, context=TEXT_CONTEXT, width=128, layers=2, heads=2),
        noise_schedule="linear",
        patch_size=4,
        prediction="x_start",
    )


def mix_at(done: float) -> Mix:
    """The forms to draw: identity first, then more counts and positions."""
    if done < 0.12:
        return Mix(one=0.80, tinted=0.08, count=0.12, pair=0.0)
    if done < 0.40:
        return Mix(one=0.52, tinted=0.08, count=0.18, pair=0.22)
    return Mix(one=0.36, tinted=0.12, count=0.20, pair=0.32)


def concepts_at(done: float, concepts: int) -> int:
    """How many of the concepts to draw: a few first, soon all of them."""
    first = min(FIRST_CONCEPTS, concepts)
    return min(concepts, first + round((concepts - first) * done / ALL_CONCEPTS_AFTER))


def ema_decay_at(done: float, steps: int) -> float:
    """How much of the average stays in a step: little at first, and a little less again near the end."""
    return min(0.999 if done < 0.8 else 0.9985, steps / (steps + 10))
