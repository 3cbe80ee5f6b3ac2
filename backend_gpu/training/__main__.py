"""Make a mini model: train both networks, export them as a folder that the service opens, evaluate it, draw with it.

The table of concepts is a TSV like the embedded one: an emoji or the path of a picture beside the table, the English
name and its plural, the colour it has of itself, "yes" if it may have any other, and its Japanese names.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

from backend_gpu.settings import expanded, let_waiting_threads_sleep

if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while torch is imported, some seconds, is no traceback
    let_waiting_threads_sleep()  # training shares the cores with those that render for it

import torch
from PIL import Image

from backend_gpu.errors import BackendError, InvalidRequest
from backend_gpu.glide.config import SamplerName
from backend_gpu.glide.metadata import read_metadata
from backend_gpu.glide.pipeline import Pipeline, Sampling
from backend_gpu.glide.tokenizer import WordTokenizer
from backend_gpu.glide.unet import UNet
from backend_gpu.mini.metadata import (
    EXPERIMENTAL,
    GUIDANCE_SCALE,
    STEPS,
    UPSAMPLE_STEPS,
    WEIGHTS,
    trained_concepts,
    weights_hash,
)
from backend_gpu.mini.model import open_mini
from backend_gpu.mini.vocabulary import CONCEPTS, GRAMMAR, Vocabulary, load_vocabulary
from backend_gpu.streams import open_streams, write_line
from backend_gpu.training import train
from backend_gpu.training.batches import Batches
from backend_gpu.training.by_eye import (
    BY_EYE,
    EYE,
    agreement,
    drawn,
    eye_trials,
    opinions,
    read_by_eye,
    write_sheets,
)
from backend_gpu.training.card import CARD, experimental, with_section, write_card
from backend_gpu.training.classifier import CLEAN_CROPS, CropClassifier, Recipe, clean_accuracy, open_classifier
from backend_gpu.training.device import chosen_device, has_bfloat16, placed
from backend_gpu.training.evaluate import SEED, Judge, evaluate, model_painter
from backend_gpu.training.grid import draw_grid
from backend_gpu.training.likeness import calibrate
from backend_gpu.training.low_res import LowRes
from backend_gpu.training.plan import (
    BASE_PLAN,
    PICTURES_PER_STEP,
    TEXT_CONTEXT,
    UPSAMPLER_PLAN,
    Plan,
    base_config,
    upsampler_config,
)
from backend_gpu.training.renderers import STOPS, Feed, Renderers
from backend_gpu.training.ring import Ring
from backend_gpu.training.scenes import glyph_image
from backend_gpu.training.sheet import draw_things, label_things, write_sprites
from backend_gpu.training.study import FORMS, Precision, Setting, draw_sheet, study, table

MAX_MINUTES = 999_999
CALIBRATION = {64: 200, 256: 60}  # renders that show how well likeness parts good ones from spoiled ones, by side
STUDY = Path(__file__).parents[2] / "docs" / "samplers.md"


def command_line() -> argparse.ArgumentParser:
    """A parser with a command for each step of making a model."""
    parser = argparse.ArgumentParser(
        prog="backend_gpu.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("train", help="train one network, or go on with it: the base model first")
    command.add_argument("network", choices=("base", "upsampler"))
    add_table_options(command)
    command.add_argument("--minutes", type=float, help="length of the whole run; also sets the learning rate's fall")
    command.add_argument(
        "--start-from", type=Path, help="the folder of an earlier model's weights, to learn from there"
    )
    command.add_argument("--batch-size", type=int, help="pictures in a step: by the kind of device if not given")
    command.set_defaults(run=start_training)
    command = commands.add_parser("export", help="write the trained networks as a model that service and page can use")
    add_table_options(command)
    command.add_argument(
        "--model", type=Path, help="the folder that gets weights and tables: FOLDER/model if not given"
    )
    command.set_defaults(run=export_weights)
    command = commands.add_parser("evaluate", help="score the weights; the figures go to FOLDER/evaluation.json")
    add_table_options(command)
    add_sampling_options(command)
    command.add_argument("--per-form", type=int, default=100, help="pictures of each form of the grammar")
    command.add_argument(
        "--card", action="store_true", help="also write them into the card, what failed beside the weights"
    )
    command.set_defaults(run=evaluate_weights)
    command = commands.add_parser("grid", help="draw 64 Japanese prompts as one picture")
    add_sampling_options(command)
    command.add_argument("--out", type=Path, default=Path("out/mini/grid.jpg"), help="the picture's path")
    command.set_defaults(run=draw_prompts)
    command = commands.add_parser("sheet", help="draw everything that the weights know as one picture")
    add_sampling_options(command)
    command.add_argument("--out", type=Path, default=Path("out/mini/sheet.jpg"), help="the picture's path")
    command.add_argument(
        "--sprites", action="store_true", help="also write it without names beside the weights, for pages to show"
    )
    command.set_defaults(run=draw_sheet_of_things)
    command = commands.add_parser(
        "study", help="compare samplers, steps, guidance and precision; writes docs/samplers.*"
    )
    add_table_options(command)
    add_sampling_options(command)
    command.add_argument("--per-form", type=int, default=16, help="pictures of each form of the grammar")
    command.add_argument("--out", type=Path, default=STUDY, help="the document that gets the table, beside its picture")
    command.set_defaults(run=study_samplers)
    command = commands.add_parser("by-eye", help="draw 100 pictures for a person to judge, with a table to fill")
    command.add_argument("--concepts", type=Path, default=CONCEPTS, help="the table of concepts")
    command.add_argument("--weights", type=Path, default=WEIGHTS, help="where the weights lie")
    command.add_argument("--steps", type=int, default=STEPS)
    command.add_argument("--upsample-steps", type=int, default=UPSAMPLE_STEPS)
    command.add_argument("--guidance", type=float, default=GUIDANCE_SCALE)
    command.add_argument("--out", type=Path, required=True, help="the folder of the sheets and the table")
    command.set_defaults(run=draw_for_the_eye)
    return parser


def main() -> None:
    """Parse the command line and run one step of making a model."""
    open_streams()
    parser = command_line()
    options = parser.parse_args()
    for name, value in vars(options).items():
        if isinstance(value, Path):
            try:
                setattr(options, name, expanded(value))
            except ValueError as error:
                parser.error(f"--{name.replace('_', '-')}: {error}")
    try:
        options.run(options)
    except BackendError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def add_table_options(command: argparse.ArgumentParser) -> None:
    """The options that say what is learned and where what comes of it lies."""
    command.add_argument("--concepts", type=Path, default=CONCEPTS, help="the table of concepts")
    command.add_argument("--font", type=Path, help="file of the colour font that has its emoji: Noto's if not given")
    command.add_argument("--rows", type=int, help="how many of its rows to learn: all if not given")
    command.add_argument("--folder", type=Path, default=Path("out/mini"), help="where checkpoints and figures lie")


def learned_vocabulary(options: argparse.Namespace) -> Vocabulary:
    """The grammar with those rows of the table that are learned; all of them can be drawn."""
    whole = load_vocabulary(options.concepts)
    font = str(options.font or "")
    concepts = tuple(replace(concept, font=font) for concept in whole.concepts[: options.rows])
    for concept in concepts:
        glyph_image(concept)
    return replace(whole, concepts=concepts)


def add_sampling_options(command: argparse.ArgumentParser) -> None:
    """The options of every command that makes pictures; their defaults are the service's."""
    command.add_argument("--weights", type=Path, default=WEIGHTS, help="where the weights lie")
    command.add_argument("--steps", type=int, default=STEPS)
    command.add_argument("--upsample-steps", type=int, default=UPSAMPLE_STEPS)
    command.add_argument("--guidance", type=float, default=GUIDANCE_SCALE)
    command.add_argument("--sampler", choices=get_args(SamplerName), default=Sampling.sampler)


def start_training(options: argparse.Namespace) -> None:
    """Train the base model or the upsampler until its plan's minutes are over, or a signal ends it after a step."""
    device = chosen_device()
    vocabulary = learned_vocabulary(options)
    words = vocabulary.words()
    is_base = options.network == "base"
    plan = planned(options, BASE_PLAN if is_base else UPSAMPLER_PLAN, device.type)
    make_folder(options.folder)
    torch.manual_seed(plan.seed)
    network = placed(UNet(base_config(len(words)) if is_base else upsampler_config(len(words))), device)
    earlier = options.start_from and options.start_from / f"{options.network}.safetensors"
    training = train.Training(network, plan, options.folder / f"{options.network}.pt", words, earlier)
    write_line(train.begun(training))
    if training.minutes >= plan.minutes:
        return

    tokens, mask = WordTokenizer(words, TEXT_CONTEXT).encode("")
    empty = torch.tensor(tokens, device=device), torch.tensor(mask, device=device)
    seed = plan.seed + training.steps  # what goes on sees other pictures
    low_res = None
    if not is_base:
        base = train.trained_base(options.folder / "base.pt", base_config(len(words)), words)
        low_res = LowRes(placed(base, device), empty, seed)
    feed = Feed(vocabulary=vocabulary, side=plan.side, rows=max(1, plan.batch_size // 2))
    try:
        with stopped_by_signals(training), Renderers(feed, f"{options.network} {seed}") as renderers:
            ring = Ring(renderers, plan.ring_slots, device)
            train.train_until_done(training, Batches(ring, network.config, empty, seed, low_res))
    except torch.OutOfMemoryError as error:
        raise InvalidRequest(f"batches of {plan.batch_size} don't fit the GPU: set a lower --batch-size") from error
    if training.is_stopped:
        write_line("the same command goes on from there")
        sys.exit(130)


def planned(options: argparse.Namespace, plan: Plan, device_type: str) -> Plan:
    """A plan with what the command line says.

    Raises:
        InvalidRequest: it says what can't be.
    """
    minutes = plan.minutes if options.minutes is None else options.minutes
    batch_size = plan.batch_size_on(device_type) if options.batch_size is None else options.batch_size
    if not 0 < minutes <= MAX_MINUTES:
        raise InvalidRequest(f"minutes is {minutes:g}, must be more than 0, at most {MAX_MINUTES}")
    if batch_size < 1:
        raise InvalidRequest(f"batch-size is {batch_size}, must be at least 1")
    return replace(plan, minutes=minutes, batch_size=batch_size)


def make_folder(folder: Path) -> None:
    """Make the folder of checkpoints, and see that files can be written there.

    Raises:
        InvalidRequest: they can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        why = getattr(error, "strerror", None) or error
        raise InvalidRequest(f"can't write to the folder {folder} ({why}): choose another") from error


@contextmanager
def stopped_by_signals(training: train.Training) -> Iterator[None]:
    """Let a signal stop training after the step at hand, and a second one at once.

    Python's handlers wait for torch, minutes on a slow machine; so a thread reads from a socket that they came.
    """
    signals = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]  # as nohup has SIGHUP
    came, heard = socket.socketpair()
    came.setblocking(False)

    def stop(_number: int, _: object) -> None:
        training.is_stopped = True

    def listen() -> None:
        if heard.recv(1):
            write_line("\nstopping after this step; a second time at once, without saving", sys.stderr)
        if number := heard.recv(1):
            os._exit(128 + number[0])

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    wakeup = signal.set_wakeup_fd(came.fileno())
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        came.close()
        listener.join()
        heard.close()


def export_weights(options: argparse.Namespace) -> None:
    """Turn the checkpoints of both networks into weights, and put beside them what the page's translator reads."""
    concepts = [concept.english for concept in learned_vocabulary(options).concepts]
    model = options.model or options.folder / "model"
    for network in ("base", "upsampler"):
        weights = model / "weights" / f"{network}.safetensors"
        train.export(options.folder / f"{network}.pt", weights, concepts)
        write_line(f"{weights}: {weights.stat().st_size / 1e6:.1f} MB")
    for source, name in ((options.concepts, CONCEPTS.name), (GRAMMAR, GRAMMAR.name)):
        if source.resolve() != (model / name).resolve():
            shutil.copy(source, model / name)
    use = f"BACKEND_MINI_DIR={shlex.quote(str(model))} FRONTEND_MINI_DIR={shlex.quote(str(model))}"
    write_line(f"To draw with it:\n  {use} make run\n  {use} make image PROMPT='{concepts[0]}' OUT=picture.png")


def instruments(options: argparse.Namespace) -> tuple[Vocabulary, CropClassifier]:
    """The concepts that the weights were trained on, and a classifier that knows them."""
    whole, known = learned_vocabulary(options), set(trained_concepts(options.weights))
    vocabulary = replace(whole, concepts=tuple(concept for concept in whole.concepts if concept.english in known))
    return vocabulary, open_classifier(options.folder / "classifier.pt", vocabulary, Recipe())


def evaluate_weights(options: argparse.Namespace) -> None:
    """Score the weights, write the figures and print them in short."""
    vocabulary, classifier = instruments(options)
    top_1, top_5 = clean_accuracy(classifier, vocabulary)
    write_line(f"the classifier on clean renders: top-1 {top_1:.1%}, top-5 {top_5:.1%}")
    sampling = Sampling(sampler=options.sampler, steps=options.steps, upsample_steps=options.upsample_steps)
    pipeline = open_mini(options.weights)
    paint = model_painter(pipeline, sampling, options.guidance)
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
    known = set(trained_concepts(options.weights))
    whole = load_vocabulary(options.concepts)
    vocabulary = replace(whole, concepts=tuple(concept for concept in whole.concepts if concept.english in known))
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


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
