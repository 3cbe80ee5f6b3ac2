import io
import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from backend_gpu.jobs.png import encode_png
from backend_gpu.jobs.request import JobRequest
from tests.backend_gpu.fake_engine import FakeEngine

INFO = FakeEngine.info
REQUEST = JobRequest(
    prompt="a red apple,\n 2 blue dogs",
    source_prompt="赤いりんごと🐕二匹、「背景」は雪\n",
    translator="offline",
    negative_prompt="",
    owner="anna",
    n=2,
    seed=7,
    guidance_scale=2.5,
    steps=20,
    upsample_steps=4,
    sampler="dpmpp_2m",
    upscale=True,
    model="kotoe-mini",
)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


def chunks_of(png: bytes) -> dict[str, str]:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return {str(key): str(value) for key, value in image.info.items()}


def test_the_pixels_survive(pixels: NDArray[np.uint8]) -> None:
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels, REQUEST, 0, INFO)))), pixels)


def test_the_parameters_are_as_other_programs_write_them(pixels: NDArray[np.uint8]) -> None:
    request = replace(REQUEST, negative_prompt="blurry,\nold")
    assert chunks_of(encode_png(pixels, request, 0, INFO))["parameters"].splitlines() == [
        "a red apple, 2 blue dogs",
        "Negative prompt: blurry, old",
        "Steps: 20, Sampler: DPM++ 2M, CFG scale: 2.5, Seed: 7, Size: 24x16, Model: kotoe-mini, Model hash: 0123456789",
    ]


def test_without_a_negative_prompt_there_is_no_line_for_it(pixels: NDArray[np.uint8]) -> None:
    lines = chunks_of(encode_png(pixels, REQUEST, 0, INFO))["parameters"].splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("Steps: 20, ")


def test_the_picture_holds_all_that_made_it(pixels: NDArray[np.uint8]) -> None:
    record = json.loads(chunks_of(encode_png(pixels, REQUEST, 1, INFO))["kotoe"])
    assert record.pop("versions") == {"torch": "2"}
    assert record.pop("model_hash") == INFO.model_hash
    assert JobRequest(**record, n=2, owner="anna") == replace(REQUEST, seed=8)


def test_the_record_begins_with_the_texts_as_in_every_picture_before(pixels: NDArray[np.uint8]) -> None:
    record = json.loads(chunks_of(encode_png(pixels, REQUEST, 0, INFO))["kotoe"])
    settings = ["seed", "guidance_scale", "steps", "upsample_steps", "sampler", "upscale"]
    texts = ["prompt", "source_prompt", "translator", "negative_prompt"]
    assert list(record) == [*texts, *settings, "model", "model_hash", "versions"]


def test_a_prompt_outside_latin_1_survives_in_the_parameters_too(pixels: NDArray[np.uint8]) -> None:
    request = replace(REQUEST, prompt="りんご 🍎")
    assert chunks_of(encode_png(pixels, request, 0, INFO))["parameters"].startswith("りんご 🍎\n")
