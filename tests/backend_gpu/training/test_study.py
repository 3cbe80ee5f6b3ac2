import random
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from backend_gpu.glide.config import Pixels
from backend_gpu.glide.pipeline import Picture, Pipeline, Sampling
from backend_gpu.mini.vocabulary import load_vocabulary
from backend_gpu.training import study
from backend_gpu.training.classifier import CropClassifier
from backend_gpu.training.evaluate import Judge, choose_trials
from backend_gpu.training.scenes import render
from backend_gpu.training.study import Setting

VOCABULARY = replace(load_vocabulary(), concepts=load_vocabulary().concepts[:6])
DEFAULT = Setting(sampler="dpmpp_2m", steps=8, guidance_scale=2.0)
PER_FORM = 3


class Blind(CropClassifier):
    """Names every crop the first concept."""

    def __init__(self) -> None:
        pass

    def best_names(self, crops: Sequence[Pixels]) -> list[list[str]]:
        return [[VOCABULARY.concepts[0].english]] * len(crops)


class Painter:
    """Paints the true pictures, worse with fewer steps and far off without guidance; ten steps are as good as any."""

    def __init__(self) -> None:
        self.scene_of = {
            trial.scene.caption(): trial.scene
            for form in study.FORMS
            for trial in choose_trials(VOCABULARY, form, PER_FORM)
        }

    def draw(self, pictures: Sequence[Picture], sampling: Sampling) -> Pixels:
        error = max(0, 10 - sampling.steps) + 20 * (pictures[0].guidance_scale < 2)
        true = [render(self.scene_of[picture.prompt], VOCABULARY, 64, random.Random(3)) for picture in pictures]
        return (np.stack(true).astype(int) + error).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def results() -> dict[Setting, study.Result]:
    found = study.study(cast(Pipeline, Painter()), Judge(VOCABULARY, Blind()), DEFAULT, PER_FORM)
    return {result.setting: result for result in found}


def test_every_setting_is_tried_once(results: dict[Setting, study.Result]) -> None:
    assert len(results) == len(study.SAMPLERS) * len(study.STEPS) + len(study.GUIDANCE) - 1
    assert {setting.guidance_scale for setting in results} == set(study.GUIDANCE)


def test_the_distances_are_those_of_the_pixels(results: dict[Setting, study.Result]) -> None:
    converged, rough = results[replace(DEFAULT, steps=12)], results[replace(DEFAULT, steps=4)]
    assert converged.from_converged == converged.from_render == 0  # one of the renders is the same picture
    assert 4 < rough.from_converged <= 6  # less where pixels are full
    assert 3 < rough.from_render <= 6
    assert results[replace(DEFAULT, guidance_scale=1.0)].from_render > 6


def test_a_sampler_that_draws_noise_converges_to_no_picture(results: dict[Setting, study.Result]) -> None:
    assert np.isnan(results[replace(DEFAULT, sampler="ddpm")].from_converged)
    assert " | | 0.0 | " in study.table([results[replace(DEFAULT, sampler="ddpm", steps=12)]])[-1].replace("  ", " ")


def test_the_judge_sees_every_form(results: dict[Setting, study.Result]) -> None:
    right = results[replace(DEFAULT, steps=12)].right
    assert list(right) == list(study.FORMS)
    assert right["background"] == right["scene"] == 1  # which need no classifier
    assert right["pair"] == 0  # the classifier names both objects alike


def test_the_table_has_a_line_for_each_setting(results: dict[Setting, study.Result]) -> None:
    lines = study.table(list(results.values()))
    assert len(lines) == 2 + len(results)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| dpmpp_2m | 4 | 2 | ")


def test_the_sheet_has_a_row_for_each_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "STEPS", (4,))
    monkeypatch.setattr(study, "GUIDANCE", (1.0,))
    asked: list[Sampling] = []

    def draw(pictures: Sequence[Picture], sampling: Sampling) -> Any:
        asked.append(sampling)
        return np.full((len(pictures), 256, 256, 3), len(asked), np.uint8)

    sheet = np.asarray(study.draw_sheet(cast(Pipeline, SimpleNamespace(draw=draw)), DEFAULT, 4))
    assert [(each.sampler, each.steps) for each in asked] == [
        *(("dpmpp_2m", 4), ("ddim", 4), ("ddpm", 4)),
        ("dpmpp_2m", 8),
    ]
    assert sheet.shape[0] == 4 * study.SHEET_SIDE
    for row in range(4):
        middle = sheet[row * study.SHEET_SIDE + study.SHEET_SIDE // 2, study.LABEL_WIDTH :]
        assert (middle == row + 1).all()
