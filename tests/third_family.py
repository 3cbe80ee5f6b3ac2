"""A third family of models, as an outsider would add it: one file, and one entry in `backend_gpu/engine/models.py`.

It has one stage of 96 pixels, a sampler of its own, no guidance and no negative prompt. It paints rings around a point
that the seed chooses, in a colour that the prompt chooses.
"""

import zlib
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np

from backend_gpu.engine import BatchSettings, Drawing, EngineInfo, Pixels, Previews, Stage, StepReport, Text
from backend_gpu.engine.models import Family
from backend_gpu.settings import Settings

SIDE = 96
INFO = EngineInfo(
    model="rings",
    stages=(Stage(name="paint", label=Text("輪を描く", "painting rings"), side=SIDE, steps=6),),
    samplers=("spiral",),
    qualities={"fast": {"paint": 3}, "standard": {"paint": 6}},
    license="CC0-1.0",
    examples=(Text("水の輪", "rings in water"),),
)


class RingsEngine:
    """Draws at once, and steps only to report."""

    info = replace(INFO, device="cpu")

    def check_prompt(self, prompt: str, *, is_negative: bool = False) -> list[str]:
        """See Engine: it knows every word."""
        del prompt, is_negative
        return []

    def batch_key(self, drawing: Drawing, settings: BatchSettings) -> str:
        """See Engine: one guidance a batch, as other libraries have it."""
        return f"{settings.steps} {drawing.guidance_scale}"

    def generate(
        self, drawings: Sequence[Drawing], settings: BatchSettings
    ) -> Generator[StepReport | Pixels, None, None]:
        """See Engine."""
        pictures = np.stack([rings(drawing) for drawing in drawings])
        steps = settings.steps["paint"]
        previews = Previews(steps)
        for step in range(1, steps + 1):
            x_start = pictures if previews.is_due(step) else None
            yield StepReport(stage="paint", step=step, total_steps=steps, x_start=x_start)
        yield pictures


def rings(drawing: Drawing) -> Pixels:
    """One picture, (96, 96, 3)."""
    x, y = np.random.default_rng(drawing.seed).integers(0, SIDE, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    waves = np.sin(np.hypot(rows - y, columns - x) / 2)[..., None]
    colour = np.array(zlib.crc32(drawing.prompt.encode()) >> np.array([0, 8, 16]) & 255)
    painted: Pixels = ((waves + 1) / 2 * colour).astype(np.uint8)
    return painted


def describe(settings: Settings) -> EngineInfo:
    """What it is."""
    del settings
    return INFO


def open_engine(settings: Settings) -> RingsEngine:
    """Load it: there is nothing to load."""
    del settings
    return RingsEngine()


RINGS = Family(describe=describe, open=open_engine)
