"""The newest rendered pictures on the device that trains, from which its batches are drawn at random."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from backend_gpu.training.plan import TEXT_CONTEXT
from backend_gpu.training.renderers import Captioned, Feed

FRESH = 3  # pictures rendered for each one drawn, at most: more would only take the processor's time from the trainer


class Source(Protocol):
    """Where pictures come from: renderers."""

    feed: Feed

    def filled(self, done: float, *, waits: bool = False) -> Iterator[Captioned]: ...


class Ring:
    """As many slots of pictures as it has room for; the next one replaces the oldest."""

    def __init__(self, source: Source, slots: int, device: torch.device) -> None:
        self.source, self.device = source, device
        side, self._rows = source.feed.side, source.feed.rows
        self.capacity = slots * self._rows
        self.pictures = torch.empty(self.capacity, side, side, 3, dtype=torch.uint8, device=device)
        self.tokens = torch.empty(self.capacity, TEXT_CONTEXT, dtype=torch.int64, device=device)
        self.masks = torch.empty(self.capacity, TEXT_CONTEXT, dtype=torch.bool, device=device)
        self.rendered = self.drawn = 0

    def fill(self, pictures: int, done: float) -> None:
        """Wait until there are that many, or as many as there is room for."""
        while self.rendered < min(pictures, self.capacity):
            self._take(done, waits=True)

    def refill(self, done: float) -> None:
        """Take over what is rendered, without waiting for more.

        Args:
            done: the share of the plan that the next pictures are for.

        Raises:
            BackendError: a renderer has failed or was killed.
        """
        while self.rendered < FRESH * self.drawn and self._take(done):
            pass

    def draw(self, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (N, 3, side, side) in [-1, 1], tokens (N, L) and masks (N, L); any picture may come twice."""
        self.drawn += number
        filled = min(self.rendered, self.capacity)
        rows = torch.randint(filled, (number,), generator=generator, device=self.device)
        pictures = self.pictures[rows].permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        return pictures, self.tokens[rows], self.masks[rows]

    def _take(self, done: float, *, waits: bool = False) -> bool:
        """Whether there was something to take over."""
        before = self.rendered
        for slot in self.source.filled(done, waits=waits):
            first = self.rendered % self.capacity
            rows = slice(first, first + self._rows)
            self.pictures[rows].copy_(self._sendable(slot.pictures), non_blocking=True)
            self.tokens[rows].copy_(self._sendable(slot.tokens), non_blocking=True)
            self.masks[rows].copy_(self._sendable(slot.masks), non_blocking=True)
            self.rendered += self._rows
        return self.rendered > before

    def _sendable(self, array: NDArray[Any]) -> Tensor:
        """An array of the slot; for a GPU a copy that it fetches by itself, while the slot is filled anew."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self.device.type == "cuda" else tensor
