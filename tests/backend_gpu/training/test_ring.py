from collections.abc import Iterator

import numpy as np
import pytest
import torch

from backend_gpu.training.plan import TEXT_CONTEXT
from backend_gpu.training.renderers import Captioned
from backend_gpu.training.ring import FRESH, Ring
from tests.backend_gpu.training.rendered import InProcess

CPU = torch.device("cpu")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


class Numbered(InProcess):
    """Slots of one pixel whose value says which picture it is, and whose caption has that many tokens."""

    def __init__(self) -> None:
        super().__init__(side=1, rows=2)
        self.number = self.ready = 0

    def filled(self, done: float, *, waits: bool = False) -> Iterator[Captioned]:
        self.lessons.append(done)
        if not self.ready and not waits:
            return
        self.ready -= not waits
        numbers = np.arange(self.number, self.number + 2)
        self.number += 2
        pictures = np.broadcast_to(numbers[:, None, None, None], (2, 1, 1, 3)).astype(np.uint8)
        masks = np.arange(TEXT_CONTEXT) < numbers[:, None]
        yield Captioned(pictures, masks.astype(np.int64), masks)
        pictures[:] = 0  # the slot is filled anew


def numbers_in(ring: Ring) -> list[int]:
    pictures, tokens, masks = ring.draw(200, torch.Generator(ring.device).manual_seed(0))
    numbers = ((pictures + 1) * 127.5).round().long().cpu()
    assert numbers.shape == (200, 3, 1, 1)
    drawn = numbers[:, 0, 0, 0]
    assert torch.equal(tokens.sum(1).cpu(), drawn)  # each with its own caption
    assert torch.equal(masks.sum(1).cpu(), drawn)
    return sorted(set(drawn.tolist()))


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_drawn_are_the_newest_pictures_with_their_captions(device: str) -> None:
    source = Numbered()
    ring = Ring(source, 3, torch.device(device))
    ring.fill(4, 0.0)
    assert numbers_in(ring) == [0, 1, 2, 3]
    source.ready = 2
    ring.refill(0.0)
    assert numbers_in(ring) == [2, 3, 4, 5, 6, 7]


def test_a_batch_is_in_the_range_that_networks_take() -> None:
    ring = Ring(InProcess(), 2, CPU)
    ring.fill(8, 1.0)
    pictures, _, _ = ring.draw(8, torch.Generator())
    assert pictures.dtype == torch.float32
    assert -1 <= pictures.min() < -0.5
    assert 0.5 < pictures.max() <= 1


def test_filling_ends_where_there_is_no_more_room() -> None:
    ring = Ring(Numbered(), 3, CPU)
    ring.fill(1000, 0.0)
    assert ring.rendered == 6


def test_refilling_waits_for_nothing() -> None:
    source = Numbered()
    ring = Ring(source, 3, CPU)
    ring.fill(2, 0.0)
    ring.draw(100, torch.Generator())
    ring.refill(0.5)
    assert ring.rendered == 2
    assert source.lessons[-1] == 0.5  # it looked, though


def test_no_more_is_rendered_than_is_of_use() -> None:
    ring = Ring(InProcess(), 8, CPU)
    ring.fill(4, 0.0)
    ring.draw(10, torch.Generator())
    ring.refill(0.0)
    assert FRESH * 10 <= ring.rendered < FRESH * 10 + 4
