"""What the settings do to the pictures: samplers, steps, guidance, precision; a table and a sheet of pictures."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from backend_gpu.glide.config import Pixels, SamplerName
from backend_gpu.glide.pipeline import Picture, Pipeline, Sampling
from backend_gpu.training.evaluate import Form, Judge, Trial, Verdict, choose_trials, distances
from backend_gpu.training.fonts import label_font
from backend_gpu.training.likeness import Renders, renders_of
from backend_gpu.training.scenes import resized_glyph

Precision = Literal["float32", "bfloat16"]
FORMS: tuple[Form, ...] = ("one", "background", "scene", "tint", "count", "pair")
STEPS = (8, 10, 12, 16, 20)
UPSAMPLE_STEPS = (1, 2, 3, 4)
GUIDANCE = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
OTHERS: tuple[tuple[SamplerName, int], ...] = (("ddim", 12), ("ddim", 20), ("ddpm", 20))
CONVERGED = Sampling(sampler="ddim", steps=100, upscale=False)  # dpmpp_2m solves the same equation
BATCH_SIZE = 8
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
    upsample_steps: int
    guidance_scale: float
    precision: Precision = "float32"

    @property
    def sampling(self) -> Sampling:
        """The pipeline's settings."""
        return Sampling(sampler=self.sampler, steps=self.steps, upsample_steps=self.upsample_steps)

    def __str__(self) -> str:
        steps = f"{self.steps} + {self.upsample_steps} steps"
        return f"{self.sampler}, {steps}, guidance {self.guidance_scale:g}, {self.precision}"


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One batch of pictures by both networks, and how long each took."""

    small: Pixels  # (N, 64, 64, 3)
    large: Pixels  # (N, 256, 256, 3)
    base_s: float
    upsample_s: float


@dataclass
class Result:
    """What came of a setting."""

    setting: Setting
    verdicts: list[Verdict] = field(default_factory=list)
    from_converged: list[float] = field(default_factory=list)  # root mean squares at 64 px, of 255; none for ddpm
    from_default: list[float] = field(default_factory=list)  # the same at 256 px, from the default setting's picture
    seconds: list[float] = field(default_factory=list)  # a batch's

    def cells(self) -> list[str]:
        """What the table says of it."""
        setting = self.setting
        forms: dict[Form, list[bool]] = {}
        for verdict in self.verdicts:
            forms.setdefault(verdict.form, []).append(verdict.is_right)
        measured = [verdict for verdict in self.verdicts if verdict.likeness]
        at_64, at_256 = np.median([verdict.likeness for verdict in measured], axis=0)
        return [
            *(setting.sampler, str(setting.steps), str(setting.upsample_steps), f"{setting.guidance_scale:g}"),
            *(setting.precision, f"{np.mean([np.mean(form) for form in forms.values()]):.1%}"),
            *(f"{np.mean([verdict.is_clear for verdict in measured]):.0%}", f"{at_64:.3f}", f"{at_256:.3f}"),
            f"{np.mean(self.from_converged):.1f}" if self.from_converged else "",
            *(f"{np.mean(self.from_default):.1f}", f"{sum(self.seconds) / len(self.from_default):.2f}"),
        ]


def settings(default: Setting) -> list[Setting]:
    """The default, then what differs from it in one thing."""
    tried = [default, *(replace(default, steps=steps) for steps in STEPS)]
    tried += [replace(default, upsample_steps=steps) for steps in UPSAMPLE_STEPS]
    tried += [replace(default, guidance_scale=scale) for scale in GUIDANCE]
    tried += [replace(default, sampler=sampler, steps=steps) for sampler, steps in OTHERS]
    return list(dict.fromkeys([*tried, replace(default, precision="bfloat16")]))


def study(pipelines: Mapping[Precision, Pipeline], judge: Judge, default: Setting, per_form: int) -> list[Result]:
    """Draw the same captions from the same noise in every setting for which there is a pipeline; shows its progress."""
    by_form = [choose_trials(judge.vocabulary, form, per_form) for form in FORMS]
    trials = [trial for turn in zip(*by_form, strict=True) for trial in turn]
    results = [Result(setting) for setting in settings(default) if setting.precision in pipelines]
    with tqdm(total=len(trials) * len(results) + BATCH_SIZE, desc="study", unit="picture") as progress:
        for start in range(0, len(trials), BATCH_SIZE):
            batch = Batch(pipelines, judge, trials[start : start + BATCH_SIZE])
            converged = batch.pipeline(default).draw(batch.asked(default), CONVERGED)
            progress.update(len(batch.trials))
            reference = batch.draw(default)
            for result in results:
                if result.setting.precision == "bfloat16" and start:  # many processors only imitate it, minutes each
                    continue
                drawn = batch.draw(result.setting)
                result.verdicts += batch.verdicts(drawn)
                if result.setting.sampler != "ddpm":
                    result.from_converged += root_mean_squares(drawn.small, converged)
                result.from_default += root_mean_squares(drawn.large, reference.large)
                result.seconds.append(drawn.base_s + drawn.upsample_s)
                progress.update(len(batch.trials))
            resized_glyph.cache_clear()
    return results


class Batch:
    """Some trials, their renders and what was drawn of them."""

    def __init__(self, pipelines: Mapping[Precision, Pipeline], judge: Judge, trials: Sequence[Trial]) -> None:
        self.pipelines, self.judge, self.trials = pipelines, judge, trials
        self.renders: list[list[Renders]] = [renders_of(trial.scene, judge.vocabulary) for trial in trials]
        self.drawn: dict[Setting, Drawn] = {}

    def pipeline(self, setting: Setting) -> Pipeline:
        """The networks in the setting's precision."""
        return self.pipelines[setting.precision]

    def asked(self, setting: Setting) -> list[Picture]:
        """The trials as pictures to make."""
        return [
            Picture(prompt=trial.scene.caption(), seed=trial.seed, guidance_scale=setting.guidance_scale)
            for trial in self.trials
        ]

    def draw(self, setting: Setting) -> Drawn:
        """The pictures in this setting; a base picture that another setting drew alike is taken from there."""
        if setting not in self.drawn:
            pipeline, asked, sampling = self.pipeline(setting), self.asked(setting), setting.sampling
            alike = (other for key, other in self.drawn.items() if base_of(key) == base_of(setting))
            if other := next(alike, None):
                small, base_s = other.small, other.base_s
            else:
                small, base_s = timed(lambda: pipeline.draw(asked, replace(sampling, upscale=False)))
            large, upsample_s = timed(lambda: pipeline.enlarge(asked, small, sampling))
            self.drawn[setting] = Drawn(small=small, large=large, base_s=base_s, upsample_s=upsample_s)
        return self.drawn[setting]

    def verdicts(self, drawn: Drawn) -> list[Verdict]:
        """What the instruments say of the pictures."""
        found: list[Verdict] = []
        for trial, renders, small, large in zip(self.trials, self.renders, drawn.small, drawn.large, strict=True):
            likeness = distances(renders, (small, large))
            found += [replace(verdict, likeness=likeness) for verdict in self.judge.judge(trial, small)]
        return found


def base_of(setting: Setting) -> Setting:
    """What decides over the base model's picture."""
    return replace(setting, upsample_steps=0)


def timed(draw: Callable[[], Pixels]) -> tuple[Pixels, float]:
    """What it returns, and the seconds that it took."""
    started_at = time.perf_counter()
    return draw(), time.perf_counter() - started_at


def root_mean_squares(pictures: Pixels, others: Pixels) -> list[float]:
    """Root mean square of the differences of pixels, one for each pair of pictures."""
    squares = np.square(pictures.astype(np.float32) - others).mean((-1, -2, -3))
    return [float(root) for root in np.sqrt(squares)]


def table(results: Sequence[Result]) -> list[str]:
    """The results as lines of Markdown."""
    columns = (
        *("sampler", "steps", "upsampler's", "guidance", "precision", "right", "clear", "likeness 64", "likeness 256"),
        *("from converged", "from default", "s/picture"),
    )
    rows = [columns, ("---",) * len(columns), *(result.cells() for result in results)]
    return [f"| {' | '.join(row)} |" for row in rows]


def draw_sheet(pipelines: Mapping[Precision, Pipeline], default: Setting) -> Image.Image:
    """A row for each setting, a column for each prompt, the same noise down a column."""
    font = label_font("sans", FONT_SIZE)[0]
    tried = [setting for setting in settings(default) if setting.precision in pipelines]
    sheet = Image.new("RGB", (LABEL_WIDTH + SHEET_SIDE * len(SHEET_PROMPTS), SHEET_SIDE * len(tried)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, setting in enumerate(tqdm(tried, desc="sheet", unit="row")):
        asked = [Picture(prompt=text, seed=0, guidance_scale=setting.guidance_scale) for text in SHEET_PROMPTS]
        label = str(setting).replace(", ", "\n")
        draw.text((4, row * SHEET_SIDE + SHEET_SIDE // 4), label, fill="black", font=font)
        for column, picture in enumerate(pipelines[setting.precision].draw(asked, setting.sampling)):
            small = Image.fromarray(picture).resize((SHEET_SIDE, SHEET_SIDE), Image.Resampling.LANCZOS)
            sheet.paste(small, (LABEL_WIDTH + column * SHEET_SIDE, row * SHEET_SIDE))
    return sheet
