"""Processes that render captioned pictures into memory which they share with the one that trains.

They are spawned. A fork would take along what CUDA has open, which no child may use, and the locks of torch's threads
and of FreeType, held or not. What a spawned one needs, its font's path too, is in the vocabulary that it is given. It
imports no torch, so this file must not either.

Each has slots and a pipe of its own, and they share no lock: one that is killed holds nobody up, and one whose trainer
is gone, in whatever way, reads the end of its pipe and ends too.
"""

import ctypes
import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple, Self, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from backend_gpu.errors import BackendError
from backend_gpu.glide.config import Pixels
from backend_gpu.glide.tokenizer import WordTokenizer
from backend_gpu.mini.vocabulary import Vocabulary
from backend_gpu.training.plan import TEXT_CONTEXT, concepts_at, mix_at
from backend_gpu.training.scenes import is_held_out, random_scene, render, resized_glyph

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # they end training, and that ends the renderers
SLOTS = 3  # of each renderer: it goes on with one while others wait to be taken over
GLYPH_BYTES = 250e6  # of resized glyphs in each renderer, at most

Memory: TypeAlias = "ctypes.Array[ctypes.c_uint8]"


class Captioned(NamedTuple):
    """Pictures with their captions."""

    pictures: Pixels  # (N, side, side, 3)
    tokens: NDArray[np.int64]  # (N, L)
    masks: NDArray[np.bool_]  # (N, L), True where a token is real


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What is rendered."""

    vocabulary: Vocabulary
    side: int  # of the pictures
    rows: int  # pictures in a slot

    @property
    def slots_nbytes(self) -> int:
        """Of one renderer's slots."""
        return SLOTS * self.rows * self.side**2 * 3


@dataclass(frozen=True)
class Renderer:
    """A process as its trainer sees it."""

    process: BaseProcess
    slots: Pixels


class Renderers:
    """A renderer for every core but one, while the `with` block lasts.

    Args:
        seed: what they draw follows from it; which of it comes first does not.
    """

    def __init__(self, feed: Feed, seed: str) -> None:
        self.feed, self.seed = feed, seed
        self.number = max(1, (os.cpu_count() or 1) - 1)
        self._renderers: dict[Connection, Renderer] = {}
        self._idle: list[tuple[Connection, int]] = []  # slots that nobody was told to fill yet

    def __enter__(self) -> Self:
        try:
            with stops_blocked():
                for number in range(self.number):
                    self._start(number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pipe, renderer in self._renderers.items():
            renderer.process.kill()  # it holds nothing that anybody waits for
            renderer.process.join()
            pipe.close()

    def _start(self, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        memory = context.RawArray(ctypes.c_uint8, self.feed.slots_nbytes)  # its file has no name: it can't outlive us
        pipe, its_end = context.Pipe()
        arguments = (self.feed, f"{self.seed} {number}", memory, its_end)
        process = context.Process(target=render_until_the_end, args=arguments, name=f"renderer {number + 1}")
        process.start()
        its_end.close()  # so that the renderer's end is the pipe's
        self._renderers[pipe] = Renderer(process, pictures_in(memory, self.feed))
        self._idle += [(pipe, slot) for slot in range(SLOTS)]

    def filled(self, done: float, *, waits: bool = False) -> Iterator[Captioned]:
        """What has been rendered since the last call; its pictures change when the next ones are asked for.

        Args:
            done: the share of the plan that the next pictures are for.
            waits: until there is something.

        Raises:
            BackendError: a renderer has failed or was killed.
        """
        while self._idle:
            self._tell(*self._idle.pop(), done)
        for pipe in cast(list[Connection], wait(self._renderers, None if waits else 0)):
            try:
                message = pipe.recv()
            except (EOFError, ConnectionError):
                raise self._death(pipe) from None
            if isinstance(message, str):
                self._renderers[pipe].process.join()  # it tells on stderr where that was
                raise BackendError(f"rendering failed: {message}")
            slot, tokens, masks = message
            yield Captioned(self._renderers[pipe].slots[slot], tokens, masks)
            self._tell(pipe, slot, done)

    def _tell(self, pipe: Connection, slot: int, done: float) -> None:
        try:
            pipe.send((slot, done))
        except ConnectionError:
            raise self._death(pipe) from None

    def _death(self, pipe: Connection) -> BackendError:
        process = self._renderers[pipe].process
        process.join()
        code = process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        return BackendError(f"{process.name} of {self.number} ended with {how}: is memory short?")


@contextmanager
def stops_blocked() -> Iterator[None]:
    """Processes started in here never get the signals that end training: a terminal sends them to its whole group."""
    resource_tracker.ensure_running()  # which multiprocessing starts before its first process, and then unblocks them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def pictures_in(memory: Memory, feed: Feed) -> Pixels:
    """A renderer's memory as its slots, (SLOTS, rows, side, side, 3)."""
    return np.frombuffer(memoryview(memory), np.uint8).reshape(SLOTS, feed.rows, feed.side, feed.side, 3)


def render_until_the_end(feed: Feed, seed: str, memory: Memory, pipe: Connection) -> None:
    """A renderer's work: to fill the slots that its pipe names, until the pipe ends."""
    slots, rng = pictures_in(memory, feed), random.Random(seed)
    try:
        while True:
            slot, done = pipe.recv()
            pipe.send((slot, *fill(slots[slot], feed.vocabulary, done, rng)))
    except (EOFError, ConnectionError):
        return  # the trainer has gone
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        raise


def fill(
    pictures: Pixels, vocabulary: Vocabulary, done: float, rng: random.Random
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Render pictures (N, side, side, 3) in place, as they are learned after that share of the plan.

    Returns: tokens and masks of their captions, each (N, L); never of one that the evaluation keeps.
    """
    number, side = pictures.shape[:2]
    shown = replace(vocabulary, concepts=vocabulary.concepts[: concepts_at(done, len(vocabulary.concepts))])
    tokenizer = WordTokenizer(vocabulary.words(), TEXT_CONTEXT)
    captions = []
    for row in range(number):
        while is_held_out(scene := random_scene(shown, mix_at(done), rng)):
            pass
        pictures[row] = render(scene, vocabulary, side, rng)
        captions.append(tokenizer.encode(scene.caption()))
    if resized_glyph.cache_info().currsize * 2 * side**2 > GLYPH_BYTES:  # each has about 2 side^2 bytes or fewer
        resized_glyph.cache_clear()
    tokens, masks = zip(*captions, strict=True)
    return np.array(tokens), np.array(masks)
