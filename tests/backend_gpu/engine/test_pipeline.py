"""The engine of this process; what it draws is tested with the pipeline and the mini model."""

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend_gpu.engine import BatchSettings, Drawing, Pixels, finished
from backend_gpu.engine.pipeline import PipelineEngine
from backend_gpu.errors import OutOfMemory
from backend_gpu.glide.pipeline import Picture, Pipeline, Sampling
from tests.backend_gpu.fake_engine import FakeEngine

DRAWING = Drawing(prompt="a dog", seed=0, guidance_scale=2.5)
SETTINGS = BatchSettings(sampler="ddim", steps={"base": 1})


@pytest.fixture
def engine() -> PipelineEngine:
    """An engine whose pipeline has no networks: the test says what it does."""
    return PipelineEngine(Pipeline.__new__(Pipeline), FakeEngine.info)


def test_a_model_of_any_english_reads_what_the_eye_does(
    engine: PipelineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Picture] = []

    def generate(_: Pipeline, pictures: Sequence[Picture], _sampling: Sampling) -> Generator[Pixels, None, None]:
        read.extend(pictures)
        yield np.zeros((1, 64, 64, 3), np.uint8)

    monkeypatch.setattr(Pipeline, "generate", generate)
    drawing = replace(DRAWING, prompt="Ａ red ap\u00adple", negative_prompt="ｄｏｇ\u200b")
    finished(engine.generate([drawing], SETTINGS))
    assert [(picture.prompt, picture.negative_prompt) for picture in read] == [("A red apple", "dog")]


def test_memory_that_a_cpu_does_not_have_is_told_as_such(
    engine: PipelineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "generate", lambda *_: torch.empty(10**15))
    with pytest.raises(OutOfMemory, match="1 pictures do not fit into the memory of cpu"):
        finished(engine.generate([DRAWING], SETTINGS))


def test_another_failure_stays_what_it_is(engine: PipelineEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "generate", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        finished(engine.generate([DRAWING], SETTINGS))
