"""Train a network, and make a model of both: the commands `train` and `export`."""

import argparse
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

import torch

from backend_gpu.errors import InvalidRequest
from backend_gpu.glide.tokenizer import WordTokenizer
from backend_gpu.glide.unet import UNet
from backend_gpu.mini.metadata import SPRITE_INDEX, SPRITES
from backend_gpu.mini.vocabulary import CONCEPTS, GRAMMAR, Vocabulary, load_vocabulary
from backend_gpu.streams import write_line
from backend_gpu.training import train
from backend_gpu.training.batches import Batches
from backend_gpu.training.device import chosen_device, placed
from backend_gpu.training.low_res import LowRes
from backend_gpu.training.plan import BASE_PLAN, TEXT_CONTEXT, UPSAMPLER_PLAN, Plan, base_config, upsampler_config
from backend_gpu.training.renderers import STOPS, Feed, Renderers
from backend_gpu.training.ring import Ring
from backend_gpu.training.scenes import glyph_image

MAX_MINUTES = 999_999


def learned_vocabulary(options: argparse.Namespace) -> Vocabulary:
    """The grammar with those rows of the table that are learned; all of them can be drawn."""
    whole = load_vocabulary(options.concepts)
    font = str(options.font or "")
    concepts = tuple(replace(concept, font=font) for concept in whole.concepts[: options.rows])
    for concept in concepts:
        glyph_image(concept)
    return replace(whole, concepts=concepts)


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
    for name in (SPRITES, SPRITE_INDEX):  # of the weights before these
        (model / "weights" / name).unlink(missing_ok=True)
    for source, name in ((options.concepts, CONCEPTS.name), (GRAMMAR, GRAMMAR.name)):
        if source.resolve() != (model / name).resolve():
            shutil.copy(source, model / name)
    use = f"BACKEND_MINI_DIR={shlex.quote(str(model))} FRONTEND_MINI_DIR={shlex.quote(str(model))}"
    write_line(f"To draw with it:\n  {use} make run\n  {use} make image PROMPT='{concepts[0]}' OUT=picture.png")
