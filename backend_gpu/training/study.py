"""What the sampler's settings do to the pictures: samplers by steps, and guidance; a table and a sheet of pictures."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from backend_gpu.glide.config import Pixels, SamplerName
from backend_gpu.glide.pipeline import Picture, Pipeline, Sampling
from backend_gpu.training.classifier import PICTURE_SIDE
from backend_gpu.training.evaluate import BATCH_SIZE, Form, Judge, Trial, choose_trials
from backend_gpu.training.fonts import label_font
from backend_gpu.training.scenes import Float, render

FORMS: tuple[Form, ...] = ("one", "background", "scene", "tint", "count", "pair")
SAMPLERS: tuple[SamplerName, ...] = ("dpmpp_2m", "ddim", "ddpm")
STEPS = (4, 6, 8, 12, 20, 40)
GUIDANCE = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
CONVERGED = Sampling(sampler="ddim", steps=100, upscale=False)  # dpmpp_2m solves the same equation
RENDERED: tuple[Form, ...] = ("one", "background")  # compared with renders
RENDERS = 40
SHEET_PROMPTS = (
    "a red apple on a blue background",
    "a dog on the grass",
    "a purple car on a white background",
    "three cats",
    "a house to the left of a tree",
)
SHEET_SIDE, LABEL_WIDTH, FONT_SIZE = 96, 150, 13


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to sample."""

    sampler: SamplerName
    steps: int
    guidance_scale: float

    @property
    def sampling(self) -> Sampling:
        """The pipeline's settings, without the upsampler."""
        return Sampling(sampler=self.sampler, steps=self.steps, upscale=False)

    def __str__(self) -> str:
        return f"{self.sampler}, {self.steps} steps, guidance {self.guidance_scale:g}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a setting."""

    setting: Setting
    right: dict[Form, float]  # share of the pictures in which what was asked for is right
    from_converged: float  # root mean square from the converged run of the same noise, of 255; NaN for ddpm
    from_render: float  # root mean square from the nearest of some renders of the same scene, of 255
    seconds: float  # per picture

    @property
    def mean_right(self) -> float:
        """All forms weighing the same."""
        return float(np.mean(list(self.right.values())))


def settings(default: Setting) -> list[Setting]:
    """Every sampler at every number of steps with the default's guidance, then the default at every guidance."""
    grid = [replace(default, sampler=sampler, steps=steps) for sampler in SAMPLERS for steps in STEPS]
    return list(dict.fromkeys(grid + [replace(default, guidance_scale=scale) for scale in GUIDANCE]))


def study(pipeline: Pipeline, judge: Judge, default: Setting, per_form: int) -> list[Result]:
    """Draw the same captions from the same noise in every setting; shows its progress."""
    trials = [trial for form in FORMS for trial in choose_trials(judge.vocabulary, form, per_form)]
    tried = settings(default)
    renders = {number: true_pictures(trial, judge) for number, trial in enumerate(trials) if trial.form in RENDERED}
    results = []
    with tqdm(total=len(tried) + 1, desc="study", unit="setting") as progress:
        converged = paint(pipeline, trials, CONVERGED, default.guidance_scale)
        progress.update()
        for setting in tried:
            started_at = time.perf_counter()
            pictures = paint(pipeline, trials, setting.sampling, setting.guidance_scale)
            seconds = (time.perf_counter() - started_at) / len(trials)
            from_render = [distances(pictures[number], truth).min() for number, truth in renders.items()]
            results.append(
                Result(
                    setting=setting,
                    right=shares_right(judge, trials, pictures),
                    from_converged=float("nan")
                    if setting.sampler == "ddpm"
                    else float(distances(pictures, converged).mean()),
                    from_render=float(np.mean(from_render)),
                    seconds=seconds,
                )
            )
            progress.update()
    return results


def paint(pipeline: Pipeline, trials: Sequence[Trial], sampling: Sampling, guidance_scale: float) -> Pixels:
    """Pictures (N, 64, 64, 3) of the trials."""
    asked = [Picture(prompt=trial.scene.caption(), seed=trial.seed, guidance_scale=guidance_scale) for trial in trials]
    batches = (asked[start : start + BATCH_SIZE] for start in range(0, len(asked), BATCH_SIZE))
    return np.concatenate([pipeline.draw(batch, sampling) for batch in batches])


def true_pictures(trial: Trial, judge: Judge) -> Pixels:
    """Some renders of the trial's scene, (RENDERS, 64, 64, 3): sizes, places and shades differ a little."""
    return np.stack(
        [render(trial.scene, judge.vocabulary, PICTURE_SIDE, random.Random(seed)) for seed in range(RENDERS)]
    )


def distances(pictures: Pixels, others: Pixels) -> Float:
    """Root mean square of the differences of pixels, one for each pair of pictures."""
    return np.asarray(np.sqrt(np.square(pictures.astype(np.float32) - others).mean((-1, -2, -3))))


def shares_right(judge: Judge, trials: Sequence[Trial], pictures: Pixels) -> dict[Form, float]:
    """The share of each form's pictures in which what was asked for is right."""
    outcomes: dict[Form, list[bool]] = {form: [] for form in FORMS}
    for trial, picture in zip(trials, pictures, strict=True):
        for verdict in judge.judge(trial, picture):
            outcomes[verdict.form].append(verdict.is_right)
    return {form: float(np.mean(each)) for form, each in outcomes.items()}


def table(results: Sequence[Result]) -> list[str]:
    """The results as lines of Markdown."""
    lines = [
        f"| sampler | steps | guidance | all right | {' | '.join(FORMS)} | from converged | from render | s/picture |",
        f"|{' --- |' * (7 + len(FORMS))}",
    ]
    for result in results:
        setting = result.setting
        cells = [setting.sampler, str(setting.steps), f"{setting.guidance_scale:g}", f"{result.mean_right:.1%}"]
        cells += [f"{result.right[form]:.0%}" for form in FORMS]
        cells += ["" if np.isnan(result.from_converged) else f"{result.from_converged:.1f}"]
        cells += [f"{result.from_render:.1f}", f"{result.seconds:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def draw_sheet(pipeline: Pipeline, default: Setting, upsample_steps: int) -> Image.Image:
    """A row for each setting, a column for each prompt, the same noise down a column."""
    font = label_font("sans", FONT_SIZE)[0]
    tried = settings(default)
    sheet = Image.new("RGB", (LABEL_WIDTH + SHEET_SIDE * len(SHEET_PROMPTS), SHEET_SIDE * len(tried)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, setting in enumerate(tqdm(tried, desc="sheet", unit="row")):
        asked = [Picture(prompt=text, seed=0, guidance_scale=setting.guidance_scale) for text in SHEET_PROMPTS]
        sampling = replace(setting.sampling, upscale=True, upsample_steps=upsample_steps)
        label = str(setting).replace(", ", "\n")
        draw.text((4, row * SHEET_SIDE + SHEET_SIDE // 4), label, fill="black", font=font)
        for column, picture in enumerate(pipeline.draw(asked, sampling)):
            small = Image.fromarray(picture).resize((SHEET_SIDE, SHEET_SIDE), Image.Resampling.LANCZOS)
            sheet.paste(small, (LABEL_WIDTH + column * SHEET_SIDE, row * SHEET_SIDE))
    return sheet
