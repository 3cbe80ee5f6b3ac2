"""Look at what a model draws: the commands that score it, draw with it and compare settings."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from backend_gpu.glide.metadata import read_metadata
from backend_gpu.glide.pipeline import Pipeline, Sampling
from backend_gpu.mini.metadata import EXPERIMENTAL, trained_concepts, weights_hash
from backend_gpu.mini.model import open_mini
from backend_gpu.mini.vocabulary import Vocabulary, load_vocabulary
from backend_gpu.streams import write_line
from backend_gpu.training.by_eye import BY_EYE, EYE, agreement, drawn, eye_trials, opinions, read_by_eye, write_sheets
from backend_gpu.training.card import CARD, experimental, with_section, write_card
from backend_gpu.training.classifier import CLEAN_CROPS, CropClassifier, Recipe, clean_accuracy, open_classifier
from backend_gpu.training.device import has_bfloat16
from backend_gpu.training.evaluate import SEED, Judge, evaluate, model_painter
from backend_gpu.training.grid import draw_grid
from backend_gpu.training.likeness import calibrate
from backend_gpu.training.making import learned_vocabulary
from backend_gpu.training.plan import PICTURES_PER_STEP
from backend_gpu.training.sheet import draw_things, label_things, write_sprites
from backend_gpu.training.study import FORMS, Precision, Setting, draw_sheet, study, table

CALIBRATION = {64: 200, 256: 60}  # renders that show how well likeness parts good ones from spoiled ones, by side


def trained_part(vocabulary: Vocabulary, weights: Path) -> Vocabulary:
    """The vocabulary with those of its concepts that the weights were trained on."""
    known = set(trained_concepts(weights))
    return replace(vocabulary, concepts=tuple(one for one in vocabulary.concepts if one.english in known))


def instruments(options: argparse.Namespace) -> tuple[Vocabulary, CropClassifier]:
    """The concepts that the weights were trained on, and a classifier that knows them."""
    vocabulary = trained_part(learned_vocabulary(options), options.weights)
    return vocabulary, open_classifier(options.folder / "classifier.pt", vocabulary, Recipe())


def evaluate_weights(options: argparse.Namespace) -> None:
    """Score the weights, write the figures and print them in short."""
    vocabulary, classifier = instruments(options)
    top_1, top_5 = clean_accuracy(classifier, vocabulary)
    write_line(f"the classifier on clean renders: top-1 {top_1:.1%}, top-5 {top_5:.1%}")
    pipeline = open_mini(options.weights)
    paint = model_painter(pipeline, whole_pictures(options), options.guidance)
    calibration = {side: calibrate(vocabulary, side, CALIBRATION[side]) for side in CALIBRATION if options.card}
    scores = evaluate(vocabulary, classifier, paint, options.per_form)
    metadata = read_metadata(options.weights / "base.safetensors")
    steps = int(metadata["steps"])
    steps_tried = f"--steps {options.steps} --upsample-steps {options.upsample_steps}"
    tried = f"--per-form {options.per_form} {steps_tried} --guidance {options.guidance:g} --sampler {options.sampler}"
    report = {
        "command": f"python -m backend_gpu.training evaluate {tried}",
        "seed": SEED,
        "per_form": options.per_form,
        "steps": options.steps,
        "upsample_steps": options.upsample_steps,
        "guidance": options.guidance,
        "sampler": options.sampler,
        "weights": {
            "steps": steps,
            "pictures_seen": steps * PICTURES_PER_STEP,
            "minutes": int(metadata["minutes"]),
            "held_out": json.loads(metadata["held_out"]),
        },
        "classifier": {"top_1": top_1, "top_5": top_5, "n": CLEAN_CROPS},
        "likeness": {str(side): {"n": CALIBRATION[side], "clear": shares} for side, shares in calibration.items()},
        "scores": scores.to_json(),
    }
    rows = read_by_eye(BY_EYE, weights_hash(options.weights)) if options.card else []
    if rows:
        report["by_eye"] = agreement(opinions(pipeline, Judge(vocabulary, classifier), rows, options.guidance))
    path = options.folder / "evaluation.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.card:
        write_card(CARD, report)
        phrases = json.dumps(experimental(report)) + "\n"
        (options.weights / EXPERIMENTAL).write_text(phrases, encoding="utf-8")
    for form, result in scores.forms.items():
        verdict = "passes" if result.passes else "below its gate"
        figures = "  ".join(f"{name} {value:.3f}" for name, value in result.figures.items())
        clear = "" if result.clear is None else f"clear {result.clear:.1%}, "
        write_line(f"{form:10}  {clear}right {result.right:.1%} of {result.n:4}  {verdict:14}  {figures}")
    write_line(f"{len(scores.concepts_that_pass)} of {len(vocabulary.concepts)} concepts pass; all figures: {path}")


def draw_for_the_eye(options: argparse.Namespace) -> None:
    """Draw the pictures that a person judges, and the table to fill."""
    vocabulary = trained_part(load_vocabulary(options.concepts), options.weights)
    seen = eye_trials(vocabulary, Sampling(steps=options.steps, upsample_steps=options.upsample_steps))
    pictures = {place: large for place, _, large in drawn(open_mini(options.weights), seen, options.guidance)}
    write_sheets(options.out, seen, pictures, weights_hash(options.weights))
    write_line(f"{options.out}: fill the column eye of {BY_EYE.name} with {', '.join(EYE)}; it goes to {BY_EYE}")


def draw_prompts(options: argparse.Namespace) -> None:
    """Draw the grid of prompts."""
    save(draw_grid(open_mini(options.weights), whole_pictures(options), options.guidance), options.out)


def draw_sheet_of_things(options: argparse.Namespace) -> None:
    """Draw every thing once; from the same pictures come the sheet with names and, if asked for, the sprites."""
    things = trained_concepts(options.weights)
    pictures = draw_things(open_mini(options.weights), things, whole_pictures(options), options.guidance)
    save(label_things(pictures, things), options.out)
    if options.sprites:
        sprites = write_sprites(pictures, things, options.weights)
        write_line(f"{sprites}: {len(things)} things, {sprites.stat().st_size / 1e6:.2f} MB")


def whole_pictures(options: argparse.Namespace) -> Sampling:
    """Sampling of both networks, as asked for."""
    return Sampling(sampler=options.sampler, steps=options.steps, upsample_steps=options.upsample_steps)


def save(sheet: Image.Image, path: Path) -> None:
    """Write a picture, and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True, quality=88)
    write_line(f"{path}: {sheet.width}x{sheet.height}")


def study_samplers(options: argparse.Namespace) -> None:
    """Compare the sampler's settings; their table and pictures go into a document."""
    default = Setting(
        sampler=options.sampler,
        steps=options.steps,
        upsample_steps=options.upsample_steps,
        guidance_scale=options.guidance,
    )
    pipelines: dict[Precision, Pipeline] = {"float32": open_mini(options.weights)}
    if has_bfloat16(torch.device("cpu")):
        pipelines["bfloat16"] = open_mini(options.weights, torch.bfloat16)
    else:
        write_line("bfloat16 is left out: this processor would emulate it, many times slower")
    results = study(pipelines, Judge(*instruments(options)), default, options.per_form)
    command = f"python -m backend_gpu.training study --per-form {options.per_form}"
    body = [f"`{command}`, {len(FORMS) * options.per_form} pictures for each line.", "", *table(results)]
    text = with_section(options.out.read_text(encoding="utf-8"), "table", "study", body)
    options.out.write_text(text, encoding="utf-8")
    draw_sheet(pipelines, default).save(options.out.with_suffix(".jpg"), optimize=True, quality=88)
    write_line("\n".join(body))
