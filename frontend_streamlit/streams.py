"""Standard input, output and error that stop nothing, whatever locale, terminal or pipe is behind them."""

import io
import os
import sys
from typing import TextIO

from frontend_streamlit.settings import output_encoding


def open_streams() -> None:
    """Make the standard streams fit for use; entry points call it first.

    One that is closed becomes /dev/null: the next file to be opened would get its number, and what libraries write
    there. What the output's encoding lacks is escaped.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            point_to_null(number)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=output_encoding(), errors="backslashreplace")


def write_line(line: str, stream: TextIO | None = None) -> None:
    """Print a line at once, on stdout by default; that nobody can read it any more is no reason to stop."""
    stream = stream or sys.stdout
    try:
        stream.write(f"{line}\n")
        stream.flush()
    except OSError:  # a closed pipe, a terminal that has gone, a full disk
        point_to_null(stream.fileno())


def point_to_null(number: int) -> None:
    """Make a file descriptor of this process, and of those that it starts, one of /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    os.set_inheritable(number, True)
