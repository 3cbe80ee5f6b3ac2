"""An engine without a network: its pictures follow from prompt and seed, and tests hold it where they want it."""

import threading
import time
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from backend_gpu.engine import Drawing, EngineInfo, OnStep, Pixels, Settings, StepReport
from backend_gpu.errors import InvalidRequest
from backend_gpu.glide.config import StageName

MAX_TOKENS = 20


class FakeEngine:
    """Draws 4 by 4 blocks of colours."""

    info = EngineInfo(
        model="kotoe-mini",
        model_hash="0" * 64,
        device="cpu",
        steps=10,
        upsample_steps=4,
        sampler="dpmpp_2m",
        guidance_scale=2.5,
    )

    def __init__(self, step_s: float = 0.0) -> None:
        self.step_s = step_s
        self.failure: Exception | None = None  # raised at the next first step
        self.batches: list[list[Drawing]] = []
        self.steps = 0
        self._may_step = threading.Event()
        self._may_step.set()

    def hold(self) -> None:
        """Let no further step happen before `release`."""
        self._may_step.clear()

    def release(self) -> None:
        self._may_step.set()

    def check_prompt(self, prompt: str) -> list[str]:
        if (count := len(prompt.split())) > MAX_TOKENS:
            raise InvalidRequest(f"the prompt has {count} tokens, at most {MAX_TOKENS}: say it shorter")
        return []

    def generate(self, drawings: Sequence[Drawing], settings: Settings, on_step: OnStep) -> Pixels:
        self.batches.append(list(drawings))
        stages: dict[StageName, int] = {"base": settings.steps}
        if settings.upscale:
            stages["upsample"] = settings.upsample_steps
        for stage, total_steps in stages.items():
            side = 64 if stage == "base" else 256
            for step in range(1, total_steps + 1):
                self._step()
                on_step(StepReport(stage=stage, step=step, total_steps=total_steps, x_start=drawn(drawings, side)))
        return drawn(drawings, side)()

    def _step(self) -> None:
        self._may_step.wait()
        if self.failure:
            failure, self.failure = self.failure, None
            raise failure
        if self.step_s:
            time.sleep(self.step_s)
        self.steps += 1


def drawn(drawings: Sequence[Drawing], side: int) -> Callable[[], Pixels]:
    return lambda: np.stack([picture(drawing, side) for drawing in drawings])


def picture(drawing: Drawing, side: int) -> Pixels:
    """(side, side, 3), the same for the same drawing."""
    words = f"{drawing.prompt}|{drawing.negative_prompt}|{drawing.guidance_scale}"
    colours = np.random.default_rng([drawing.seed, zlib.crc32(words.encode())]).integers(0, 256, (4, 4, 3), np.uint8)
    return colours.repeat(side // 4, 0).repeat(side // 4, 1)
