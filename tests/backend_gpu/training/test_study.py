import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from backend_gpu.glide.config import Pixels
from backend_gpu.glide.pipeline import Picture, Pipeline, Sampling
from backend_gpu.mini.vocabulary import load_vocabulary
from backend_gpu.training import evaluate, likeness, study
from backend_gpu.training.classifier import CropClassifier
from backend_gpu.training.evaluate import Judge, choose_trials
from backend_gpu.training.scenes import render
from backend_gpu.training.study import Setting

VOCABULARY = replace(load_vocabulary(), concepts=load_vocabulary().concepts[:6])
DEFAULT = Setting(sampler="dpmpp_2m", steps=8, upsample_steps=4, guidance_scale=2.0)
PER_FORM = 1


class Blind(CropClassifier):
    """Names every crop the first concept."""

    def __init__(self) -> None:
        pass

    def best_names(self, crops: Sequence[Pixels]) -> list[list[str]]:
        return [[VOCABULARY.concepts[0].english]] * len(crops)


class Painter:
    """Paints the true pictures, worse with fewer steps and far off without guidance; ten steps are as good as any."""

    def __init__(self) -> None:
        self.drawn: Counter[str] = Counter()
        self.scene_of = {
            trial.scene.caption(): trial.scene
            for form in study.FORMS
            for trial in choose_trials(VOCABULARY, form, PER_FORM)
        }

    def draw(self, pictures: Sequence[Picture], sampling: Sampling) -> Pixels:
        assert not sampling.upscale
        self.drawn[f"{sampling.sampler} {sampling.steps} {pictures[0].guidance_scale:g}"] += 1
        return self.true(pictures, 64, max(0, 10 - sampling.steps) + 20 * (pictures[0].guidance_scale < 2))

    def enlarge(self, pictures: Sequence[Picture], small: Pixels, sampling: Sampling) -> Pixels:
        assert len(small) == len(pictures)
        return self.true(pictures, 256, 40 * (sampling.upsample_steps == 1))

    def true(self, pictures: Sequence[Picture], side: int, noise: int) -> Pixels:
        true = [render(self.scene_of[picture.prompt], VOCABULARY, side, random.Random(3)) for picture in pictures]
        return (np.stack(true) + np.random.default_rng(0).normal(0, noise, true[0].shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def _less_to_do() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "DRAWS", 500)
        patch.setattr(likeness, "RENDERS", 3)
        patch.setattr(study, "STEPS", (8, 12))
        patch.setattr(study, "BATCH_SIZE", 4)
        patch.setattr(study, "UPSAMPLE_STEPS", (1, 4))
        patch.setattr(study, "GUIDANCE", (1.0, 2.0))
        patch.setattr(study, "OTHERS", (("ddpm", 12),))
        yield


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter()


@pytest.fixture(scope="module")
def results(painter: Painter) -> dict[Setting, study.Result]:
    pipeline = cast(Pipeline, painter)
    found = study.study({"float32": pipeline, "bfloat16": pipeline}, Judge(VOCABULARY, Blind()), DEFAULT, PER_FORM)
    return {result.setting: result for result in found}


def cells(result: study.Result) -> dict[str, str]:
    names, _, values = study.table([result])
    return dict(zip(names.strip("| ").split(" | "), values.strip("| ").split(" | "), strict=True))


def test_every_setting_is_tried_once(results: dict[Setting, study.Result]) -> None:
    assert list(results) == [
        DEFAULT,
        replace(DEFAULT, steps=12),
        replace(DEFAULT, upsample_steps=1),
        replace(DEFAULT, guidance_scale=1.0),
        replace(DEFAULT, sampler="ddpm", steps=12),
        replace(DEFAULT, precision="bfloat16"),
    ]


def test_the_base_pictures_of_the_default_serve_every_upsampler(
    results: dict[Setting, study.Result], painter: Painter
) -> None:
    assert results[replace(DEFAULT, upsample_steps=1)].seconds
    assert painter.drawn["dpmpp_2m 8 2"] == 2 + 1  # both batches, and one in the other precision


def test_bfloat16_is_tried_on_one_batch_since_it_may_take_long(results: dict[Setting, study.Result]) -> None:
    assert len(results[replace(DEFAULT, precision="bfloat16")].seconds) == 1
    assert len(results[DEFAULT].seconds) == 2


def test_the_table_tells_how_far_the_pictures_are_from_others(results: dict[Setting, study.Result]) -> None:
    good, rough = cells(results[replace(DEFAULT, steps=12)]), cells(results[replace(DEFAULT, upsample_steps=1)])
    assert good["from converged"] == good["from default"] == "0.0"
    assert 0 < float(rough["from converged"]) < 3
    assert float(rough["from default"]) > 20
    assert float(good["likeness 64"]) < float(cells(results[replace(DEFAULT, guidance_scale=1.0)])["likeness 64"])
    assert float(good["likeness 256"]) < float(rough["likeness 256"])
    assert rough["clear"] == "0%"


def test_a_sampler_that_draws_noise_converges_to_no_picture(results: dict[Setting, study.Result]) -> None:
    assert "|  | 0.0 |" in study.table([results[replace(DEFAULT, sampler="ddpm", steps=12)]])[-1]


def test_the_judge_sees_every_form(results: dict[Setting, study.Result]) -> None:
    verdicts = results[replace(DEFAULT, steps=12)].verdicts
    right = {form: [verdict.is_right for verdict in verdicts if verdict.form == form] for form in study.FORMS}
    assert all(right["background"] + right["scene"])  # which need no classifier
    assert not any(right["pair"])  # the classifier names both objects alike
    assert {verdict.form for verdict in verdicts if not verdict.likeness} == {"tint"}


def test_the_table_has_a_line_for_each_setting(results: dict[Setting, study.Result]) -> None:
    lines = study.table(list(results.values()))
    assert len(lines) == 2 + len(results)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| dpmpp_2m | 8 | 4 | 2 | float32 | ")


def test_the_sheet_has_a_row_for_each_setting() -> None:
    asked: list[Sampling] = []

    def draw(pictures: Sequence[Picture], sampling: Sampling) -> Any:
        asked.append(sampling)
        return np.full((len(pictures), 256, 256, 3), len(asked), np.uint8)

    pipeline = cast(Pipeline, SimpleNamespace(draw=draw))
    sheet = np.asarray(study.draw_sheet({"float32": pipeline, "bfloat16": pipeline}, DEFAULT))
    assert [each.steps for each in asked] == [8, 12, 8, 8, 12, 8]
    assert sheet.shape[0] == 6 * study.SHEET_SIDE
    for row in range(6):
        middle = sheet[row * study.SHEET_SIDE + study.SHEET_SIDE // 2, study.LABEL_WIDTH :]
        assert (middle == row + 1).all()
