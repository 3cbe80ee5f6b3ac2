import io
import sys

import pytest
import torch
from torch import Tensor

from backend_gpu.training.progress import ProgressLine


class Terminal(io.StringIO):
    """Standard output that somebody looks at."""

    def isatty(self) -> bool:
        return True


def tell_two_minutes(minutes: float) -> ProgressLine:
    """A step every half second for two minutes; the loss falls from 1 to 0.5 in the second one."""
    progress = ProgressLine("base model (1 of 2)", minutes, 1000, now=1000.0)
    for step in range(1, 241):
        loss = torch.tensor(1.0 if step <= 120 else 0.5)
        progress.step(step / 120, 1000 + 64 * step, loss, now=1000 + step / 2)
    return progress


def test_a_log_gets_a_line_a_minute_with_speed_and_the_time_that_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    tell_two_minutes(minutes=60).end("done")
    assert capsys.readouterr().out.splitlines() == [
        "base model (1 of 2): 1.0 of 60 min, 0:59:00 left, 8,680 pictures (128/s), loss 1.0000",
        "base model (1 of 2): 2.0 of 60 min, 0:58:00 left, 16,360 pictures (128/s), loss 0.5000",
        "done",
    ]


def test_a_terminal_gets_one_line_that_renews_itself_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    tell_two_minutes(minutes=2).end("done")
    *lines, last, after = terminal.getvalue().removeprefix("\r").replace("\x1b[K\n", "\x1b[K\r").split("\x1b[K\r")
    assert len(lines) == 120
    assert lines[0] == "base model (1 of 2): 0.0 of 2 min, 0:01:59 left, 1,128 pictures (128/s), loss 1.0000"
    assert lines[-1] == "base model (1 of 2): 2.0 of 2 min, 0:00:00 left, 16,360 pictures (128/s), loss 0.5000"
    assert (last, after) == ("done", "")


def test_a_slow_machine_is_told_tenths_of_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    ProgressLine("upsampler (2 of 2)", 60, 0, now=0.0).step(1.5, 8, torch.tensor(1.0), now=90.0)
    assert "8 pictures (0.1/s)" in capsys.readouterr().out


def test_the_loss_is_read_only_for_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    read, item = [], Tensor.item

    def noted(loss: Tensor) -> float:
        read.append(loss)
        return item(loss)

    monkeypatch.setattr(Tensor, "item", noted)
    tell_two_minutes(minutes=60)
    assert len(read) == 2
