"""How far training is: a line that renews itself on a terminal, a line now and then in a log."""

import sys
from collections import deque
from datetime import timedelta

import torch
from torch import Tensor

from backend_gpu.streams import write_line

TERMINAL_INTERVAL_S, LOG_INTERVAL_S = 1.0, 60.0
LOSSES = 100  # of the last steps, whose mean is shown


class ProgressLine:
    """How far the training of one network is; it ends by the clock, so what is left is known."""

    def __init__(self, name: str, minutes: float, pictures: int, now: float) -> None:
        """Begin.

        Args:
            minutes: of the whole training, over all its resumptions.
            pictures: seen before this resumption.
            now: monotonic seconds, as for `step`.
        """
        self.name, self.minutes = name, minutes
        self.is_terminal = sys.stdout.isatty()
        self._interval_s = TERMINAL_INTERVAL_S if self.is_terminal else LOG_INTERVAL_S
        self._shown = (pictures, now)
        self._losses: deque[Tensor] = deque(maxlen=LOSSES)

    def step(self, done_minutes: float, pictures: int, loss: Tensor, now: float) -> None:
        """Note a step, and print the line if it is time to: only then the loss is read, and a GPU waited for."""
        self._losses.append(loss)
        pictures_before, shown_at = self._shown
        if now - shown_at < self._interval_s:
            return
        self._shown = (pictures, now)
        left = timedelta(seconds=max(0, round(60 * (self.minutes - done_minutes))))
        speed = (pictures - pictures_before) / (now - shown_at)
        seen = f"{pictures:,} pictures ({speed:,.{0 if speed >= 10 else 1}f}/s)"
        minutes = f"{done_minutes:.1f} of {self.minutes:g} min, {left} left"
        line = f"{self.name}: {minutes}, {seen}, loss {torch.stack(list(self._losses)).mean().item():.4f}"
        write_line(f"\r{line}\x1b[K", end="") if self.is_terminal else write_line(line)

    def end(self, line: str) -> None:
        """Say how it ended, in the place of the line that renewed itself."""
        write_line(f"\r{line}\x1b[K" if self.is_terminal else line)
