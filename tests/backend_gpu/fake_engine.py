"""An engine without a network: what it draws follows from the drawing alone, and a test decides when it steps."""

import threading
import time
import zlib
from collections.abc import Callable, Generator, Sequence

import numpy as np

from backend_gpu.engine import (
    BatchSettings,
    Drawing,
    EngineInfo,
    Guidance,
    Pixels,
    Previews,
    Stage,
    StepReport,
    Text,
)
from backend_gpu.errors import InvalidRequest, OutOfMemory
from backend_gpu.jobs.drawing import SMOKE_PROMPT
from tests.backend_gpu.waiting import WAIT_S

MAX_TOKENS = 20  # of a prompt; a token is a word
STAGES = (
    Stage(name="base", label=Text("下描き", "sketch"), side=64, steps=10, is_guided=True),
    Stage(name="upsample", label=Text("仕上げ", "finish"), side=256, steps=4),
)


class FakeEngine:
    """Draws blocks of colours; its steps take only the seconds that `step_s` says, on whatever clock `spend` moves."""

    info = EngineInfo(
        model="kotoe-mini",
        model_hash="0123456789abcdef" * 4,
        device="cpu",
        stages=STAGES,
        samplers=("dpmpp_2m", "ddim", "ddpm"),
        guidance=Guidance(default=2.5),
        has_negative_prompt=True,
        license="MIT",
        versions={"torch": "2"},
    )

    def __init__(
        self,
        step_s: float = 0.0,
        spend: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.step_s: Callable[[str, int], float] = lambda _stage, _pictures: step_s
        self.spend, self.clock = spend, clock
        self.memory_pictures = 1000  # more do not fit
        self.unknown_words: list[str] = []  # of any prompt that has them
        self.failure: Exception | None = None  # of the next step
        self.batches: list[list[Drawing]] = []  # that were begun, without the worker's smoke test
        self.steps = 0  # of those
        self.is_drawing = False
        self._gate = threading.Condition()
        self._permits: float = float("inf")
        self._is_waiting = False

    def hold(self) -> None:
        """Let no further step happen before `allow` or `release`."""
        with self._gate:
            self._permits = 0

    def allow(self, steps: int) -> None:
        """Let so many more steps happen, and wait until the engine wants to do the next, or has left."""
        with self._gate:
            self._permits += steps
            self._gate.notify_all()
            arrived = self._gate.wait_for(
                lambda: not self._permits and (self._is_waiting or not self.is_drawing), WAIT_S
            )
            assert arrived, "the engine does not do its steps"

    def release(self) -> None:
        """Let all steps happen."""
        with self._gate:
            self._permits = float("inf")
            self._gate.notify_all()

    def wait_for_step(self) -> None:
        """Wait until the held engine wants to do a step."""
        with self._gate:
            arrived = self._gate.wait_for(lambda: self._is_waiting and not self._permits, WAIT_S)
            assert arrived, "the engine does not come to its next step"

    def check_prompt(self, prompt: str, *, is_negative: bool = False) -> list[str]:
        del is_negative
        if (count := len(prompt.split())) > MAX_TOKENS:
            raise InvalidRequest(f"the prompt has {count} tokens, at most {MAX_TOKENS}: say it shorter")
        return [word for word in self.unknown_words if word in prompt]

    def batch_key(self, drawing: Drawing, settings: BatchSettings) -> str:
        del drawing
        return f"{settings.sampler} {settings.steps}"

    def generate(
        self, drawings: Sequence[Drawing], settings: BatchSettings
    ) -> Generator[StepReport | Pixels, None, None]:
        if drawings[0].prompt == SMOKE_PROMPT:
            yield estimate(drawings, self.info.side, 1.0)
            return
        self.batches.append(list(drawings))
        if len(drawings) > self.memory_pictures:
            raise OutOfMemory(f"{len(drawings)} pictures do not fit")
        self.is_drawing = True
        try:
            yield from self._draw(drawings, settings)
        finally:
            with self._gate:
                self.is_drawing = False
                self._gate.notify_all()

    def _draw(self, drawings: Sequence[Drawing], settings: BatchSettings) -> Generator[StepReport | Pixels, None, None]:
        previews, done = Previews(sum(settings.steps.values()), self.clock), 0
        sides = {stage.name: stage.side for stage in self.info.stages}
        for stage, total in settings.steps.items():
            for step in range(1, total + 1):
                self._step(stage, drawings)
                done += 1
                x_start = estimate(drawings, sides[stage], step / total) if previews.is_due(done) else None
                yield StepReport(stage=stage, step=step, total_steps=total, x_start=x_start)
        yield estimate(drawings, sides[stage], 1.0)

    def _step(self, stage: str, drawings: Sequence[Drawing]) -> None:
        with self._gate:
            self._is_waiting = True
            self._gate.notify_all()
            assert self._gate.wait_for(lambda: self._permits > 0, WAIT_S), "the test does not let the engine go on"
            self._is_waiting = False
            self._permits -= 1
        if self.failure:
            failure, self.failure = self.failure, None
            raise failure
        self.steps += 1
        self.spend(self.step_s(stage, len(drawings)))


def estimate(drawings: Sequence[Drawing], side: int, share: float) -> Pixels:
    """The pictures, as bright as the share of steps that are done."""
    return np.stack([(share * picture(drawing, side)).astype(np.uint8) for drawing in drawings])


def picture(drawing: Drawing, side: int = 256) -> Pixels:
    """(side, side, 3), another one for every other drawing."""
    text = f"{drawing.prompt}|{drawing.negative_prompt}|{drawing.guidance_scale}"
    colours = np.random.default_rng([drawing.seed, zlib.crc32(text.encode())]).integers(0, 256, (4, 4, 3), np.uint8)
    return colours.repeat(side // 4, 0).repeat(side // 4, 1)
