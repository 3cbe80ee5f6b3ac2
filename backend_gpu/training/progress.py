"""How far training is: a line that renews itself on a terminal, a line now and then in a log."""

import sys
from collections import deque
from datetime import timedelta

from backend_gpu.streams import write_line

TERMINAL_INTERVAL_S, LOG_INTERVAL_S = 1.0, 60.0
LOSSES = 100  # of the last steps, whose mean is shown


class ProgressLine:
    """How far the training of one network is; it ends by the clock, so what is left is known."""

    def __init__(self, name: str, minutes: float, now: float) -> None:
        """Begin.

        Args:
            minutes: of the whole training, over all its resumptions.
            now: monotonic seconds, as for `step`.
        """
        self.name, self.minutes = name, minutes
        self.is_terminal = sys.stdout.isatty()
        self._interval_s = TERMINAL_INTERVAL_S if self.is_terminal else LOG_INTERVAL_S
        self._shown_at = now
        self._losses: deque[float] = deque(maxlen=LOSSES)

    def step(self, done_minutes: float, pictures: int, loss: float, now: float) -> None:
        """Note a step, and print the line if it is time to."""
        self._losses.append(loss)
        if now - self._shown_at < self._interval_s:
            return
        self._shown_at = now
        left = timedelta(seconds=max(0, round(60 * (self.minutes - done_minutes))))
        mean = sum(self._losses) / len(self._losses)
        minutes = f"{done_minutes:.1f} of {self.minutes:g} min, {left} left"
        line = f"{self.name}: {minutes}, {pictures:,} pictures, loss {mean:.4f}"
        write_line(f"\r{line}\x1b[K", end="") if self.is_terminal else write_line(line)

    def end(self, line: str) -> None:
        """Say how it ended, in the place of the line that renewed itself."""
        write_line(f"\r{line}\x1b[K" if self.is_terminal else line)
