"""Score the mini model: pictures of fixed captions, judged by instruments that know renders only."""

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from tqdm import tqdm

from backend_gpu.glide.config import Pixels
from backend_gpu.glide.pipeline import Picture, Pipeline, Sampling
from backend_gpu.mini.vocabulary import Vocabulary
from backend_gpu.training.classifier import PICTURE_SIDE, CropClassifier, object_crops
from backend_gpu.training.likeness import Renders, is_clear, renders_of
from backend_gpu.training.measures import (
    background_colour,
    frame,
    ground_frames,
    nearest,
    number_of,
    style_of,
    tint_of,
)
from backend_gpu.training.scenes import Mix, Scene, is_held_out, random_scene, resized_glyph

Form = Literal["one", "background", "scene", "style", "tint", "count", "pair"]
GATES: dict[Form, float] = {  # the share of pictures that must be right before a form is offered
    "one": 0.90,
    "background": 0.90,
    "scene": 0.90,
    "style": 0.90,
    "tint": 0.70,
    "count": 0.70,
    "pair": 0.70,
}
CONCEPT_GATE = 0.50  # the share of a concept's single pictures that must be right before it is offered
MIXES: dict[Form, Mix] = {
    **dict.fromkeys(("one", "background", "scene", "style"), Mix(1, 0, 0, 0)),
    "tint": Mix(0, 1, 0, 0),
    "count": Mix(0, 0, 1, 0),
    "pair": Mix(0, 0, 0, 1),
}
SEED = 7
DRAWS = 30_000  # scenes drawn to choose a form's trials from; with some hundred concepts fewer leave some out
ENOUGH_HELD_OUT = 24  # different captions; a form with fewer is tried on all its captions
BATCH_SIZE = 16
COLOURLESS = ("black", "white", "gray")  # backgrounds on which "black and white" may change nothing


@dataclass(frozen=True)
class Trial:
    """One picture to ask for."""

    form: Form
    scene: Scene
    seed: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the instruments found in one picture, about one form."""

    form: Form
    value: str  # the colour, scene, style, number or relation that was asked for
    concept: str
    is_right: bool
    figures: dict[str, float]  # further measurements; the report has their means
    likeness: tuple[float, ...] = ()  # distances from renders at 64 and 256 px; none where they are not measured

    @property
    def is_clear(self) -> bool:
        """Whether both pictures look like renders."""
        return all(map(is_clear, self.likeness))


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many were right, clear, and both."""

    right: float  # by the classifier and the other instruments of contents
    clear: float | None  # by likeness; None where it is not measured
    good: float  # both
    n: int


@dataclass(frozen=True, kw_only=True)
class FormScore(Share):
    """How one form did."""

    likeness: list[float]  # medians at 64 and 256 px
    gate: float
    passes: bool
    held_out: bool  # only captions that training leaves out
    captions: int  # different ones
    figures: dict[str, float]
    by_value: dict[str, Share]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How the model did."""

    forms: dict[Form, FormScore]
    concepts: dict[str, Share]  # of a single object on any ground
    forms_that_pass: list[Form]
    concepts_that_pass: list[str]

    def to_json(self) -> dict[str, object]:
        """These scores as JSON's types."""
        return asdict(self)


Painter = Callable[[Sequence[Trial]], tuple[Pixels, Pixels]]  # pictures of the trials, (N, 64, 64, 3) and at 256 px


def model_painter(pipeline: Pipeline, sampling: Sampling, guidance_scale: float) -> Painter:
    """Paint by the model, with both its networks."""

    def paint(trials: Sequence[Trial]) -> tuple[Pixels, Pixels]:
        asked = [
            Picture(prompt=trial.scene.caption(), seed=trial.seed, guidance_scale=guidance_scale) for trial in trials
        ]
        small = pipeline.draw(asked, replace(sampling, upscale=False))
        return small, pipeline.enlarge(asked, small, sampling)

    return paint


def choose_trials(vocabulary: Vocabulary, form: Form, number: int) -> list[Trial]:
    """The same trials at every call, turning through the concepts; from held-out captions where there are enough."""
    rng = random.Random(f"{SEED} {form}")
    scenes = (random_scene(vocabulary, MIXES[form], rng) for _ in range(DRAWS))
    drawn = list({scene.caption(): scene for scene in scenes if shows(scene, form)}.values())
    held_out = [scene for scene in drawn if is_held_out(scene)]
    scenes_of: dict[str, list[Scene]] = {}
    for scene in held_out if len(held_out) >= ENOUGH_HELD_OUT else drawn:
        scenes_of.setdefault(scene.objects[0].english, []).append(scene)
    turns = (options[turn % len(options)] for turn in itertools.count() for options in scenes_of.values())
    return [Trial(form, scene, seed) for seed, scene in enumerate(itertools.islice(turns, number))]


def shows(scene: Scene, form: Form) -> bool:
    """Whether the form can be judged in this scene."""
    if form == "style":
        return bool(scene.style) and bool(scene.place or scene.background) and scene.background not in COLOURLESS
    if scene.style:
        return False
    if form == "one":
        return not scene.place and not scene.background
    if form == "background":
        return bool(scene.background)
    return form != "scene" or bool(scene.place)


class Judge:
    """The instruments, ready to look at pictures."""

    def __init__(self, vocabulary: Vocabulary, classifier: CropClassifier) -> None:
        self.vocabulary, self.classifier = vocabulary, classifier
        self.frames = ground_frames(vocabulary, PICTURE_SIDE)

    def judge(self, trial: Trial, picture: Pixels) -> list[Verdict]:
        """The verdict on the trial's form; for a single object on a ground also that on the object."""
        scene, form = trial.scene, trial.form
        asked = [concept.english for concept in scene.objects]
        best = self.classifier.best_names(object_crops(picture, scene))
        found = [names[0] for names in best]

        def verdict(value: str, is_right: bool, **figures: float) -> Verdict:
            return Verdict(form=form, value=value, concept=asked[0], is_right=is_right, figures=figures)

        if form == "style":
            return [
                verdict(scene.style, style_of(picture, scene, self.vocabulary) == scene.style, object=found == asked)
            ]
        if form == "tint":
            is_tint = tint_of(picture, scene, self.vocabulary) == scene.tint
            return [verdict(scene.tint, is_tint and found == asked, object=found == asked, colour=is_tint)]
        if form == "count":
            cells = float(np.mean([name == asked[0] for name in found]))
            number = scene.counts[len(asked)]
            is_number = number_of(picture, scene, self.vocabulary) == number  # places alone also fit a crowd
            return [verdict(number, is_number and found == asked, each_object=cells, number=is_number)]
        if form == "pair":
            is_swapped = found == asked[::-1]
            each = float(np.mean([name == wanted for name, wanted in zip(found, asked, strict=True)]))
            is_right = found == asked or (scene.relation == "and" and is_swapped)  # "and" says nothing about sides
            return [verdict(scene.relation, is_right, each_object=each, swapped=is_swapped)]
        ground = "plain" if form == "one" else "on a colour" if form == "background" else "in a scene"
        is_found, is_near = found == asked, asked[0] in best[0]
        single = Verdict(
            form="one", value=ground, concept=asked[0], is_right=is_found, figures={"top_5": float(is_near)}
        )
        if form == "one":
            return [single]
        if form == "scene":
            return [single, verdict(scene.place, nearest(frame(picture), self.frames) == scene.place)]
        colours = {name: np.array(rgb, np.float32) for name, rgb in self.vocabulary.colours.items()}
        colour = background_colour(picture)
        error = float(np.abs(colour - colours[scene.background]).mean())
        is_named = nearest(colour, colours) == scene.background
        return [single, verdict(scene.background, is_named, mean_abs_rgb_error=error)]


def evaluate(vocabulary: Vocabulary, classifier: CropClassifier, paint: Painter, per_form: int) -> Scores:
    """Try every form on that many pictures, and every concept at least once; shows its progress."""
    judge = Judge(vocabulary, classifier)
    number = dict.fromkeys(GATES, per_form) | {"one": max(per_form, len(vocabulary.concepts))}
    trials = {form: choose_trials(vocabulary, form, number[form]) for form in GATES}
    verdicts: list[Verdict] = []
    with tqdm(total=sum(number.values()), desc="evaluation", unit="picture") as progress:
        for form in GATES:
            for start in range(0, number[form], BATCH_SIZE):
                batch = trials[form][start : start + BATCH_SIZE]
                for trial, small, large in zip(batch, *paint(batch), strict=True):
                    likeness = distances(renders_of(trial.scene, vocabulary), (small, large))
                    verdicts += [replace(verdict, likeness=likeness) for verdict in judge.judge(trial, small)]
                progress.update(len(batch))
                resized_glyph.cache_clear()  # at 256 px those of all concepts would take a gigabyte
    return score(verdicts, trials)


def distances(renders: Sequence[Renders], pictures: Sequence[Pixels]) -> tuple[float, ...]:
    """How far the pictures at both sides are from their renders; nothing where there are none."""
    return tuple(each.distance(picture) for each, picture in zip(renders, pictures, strict=False))


def score(verdicts: Sequence[Verdict], trials: dict[Form, list[Trial]]) -> Scores:
    """Add up the verdicts and hold them against the gates."""
    forms = {
        form: score_form([verdict for verdict in verdicts if verdict.form == form], trials[form]) for form in GATES
    }
    single = [verdict for verdict in verdicts if verdict.form == "one"]
    concepts = shares((verdict.concept, verdict) for verdict in single)
    return Scores(
        forms=forms,
        concepts=concepts,
        forms_that_pass=[form for form in forms if forms[form].passes],
        concepts_that_pass=[concept for concept, share in concepts.items() if share.right >= CONCEPT_GATE],
    )


def score_form(verdicts: Sequence[Verdict], trials: Sequence[Trial]) -> FormScore:
    """Add up the verdicts on one form."""
    total = share(verdicts)
    figures = {
        name: round(float(np.mean([verdict.figures[name] for verdict in verdicts])), 4) for name in verdicts[0].figures
    }
    gate = GATES[verdicts[0].form]
    return FormScore(
        **asdict(total),
        likeness=np.median([verdict.likeness for verdict in verdicts], axis=0).round(3).tolist(),
        gate=gate,
        passes=total.right >= gate,
        held_out=all(is_held_out(trial.scene) for trial in trials),
        captions=len({trial.scene.caption() for trial in trials}),
        figures=figures,
        by_value=shares((verdict.value, verdict) for verdict in verdicts),
    )


def shares(verdicts: Iterable[tuple[str, Verdict]]) -> dict[str, Share]:
    """How many were right and clear under each name."""
    collected: dict[str, list[Verdict]] = {}
    for name, verdict in verdicts:
        collected.setdefault(name, []).append(verdict)
    return {name: share(each) for name, each in collected.items()}


def share(verdicts: Sequence[Verdict]) -> Share:
    """How many were right, clear, and both."""

    def mean(outcomes: Iterable[bool]) -> float:
        return round(float(np.mean(list(outcomes))), 4)

    return Share(
        right=mean(verdict.is_right for verdict in verdicts),
        clear=mean(verdict.is_clear for verdict in verdicts) if verdicts[0].likeness else None,
        good=mean(verdict.is_right and verdict.is_clear for verdict in verdicts),
        n=len(verdicts),
    )
