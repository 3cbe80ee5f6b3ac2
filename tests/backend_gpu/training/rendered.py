"""Pictures for training without a process that renders them."""

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from backend_gpu.mini.vocabulary import load_vocabulary
from backend_gpu.training.renderers import Captioned, Feed, fill

VOCABULARY = replace(load_vocabulary(), concepts=load_vocabulary().concepts[:30])
WORDS = VOCABULARY.words()


class InProcess:
    """A source that always has one more slot."""

    def __init__(self, side: int = 16, rows: int = 4) -> None:
        self.feed = Feed(vocabulary=VOCABULARY, side=side, rows=rows)
        self.rng = random.Random(0)
        self.lessons: list[float] = []  # what it was asked for

    def filled(self, done: float, *, waits: bool = False) -> Iterator[Captioned]:
        del waits  # it never has to
        self.lessons.append(done)
        pictures = np.empty((self.feed.rows, self.feed.side, self.feed.side, 3), np.uint8)
        yield Captioned(pictures, *fill(pictures, VOCABULARY, done, self.rng))
        pictures[:] = 0  # the slot is filled anew
