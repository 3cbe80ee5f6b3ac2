"""Files that are there whole or not at all, after a crash or a power cut too."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from backend_gpu.errors import BackendError


@contextmanager
def atomically(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Give a path to write a file to; when the block ends, the file gets its own name, and whatever had it is replaced.

    A block that raises leaves what was there before.

    Args:
        temporary: the path to write to, in the same folder; for a sole writer, who thus overwrites what it left when
            it was killed. By default one that nobody else has.
    """
    temporary = temporary or path.with_name(f".{uuid4().hex}.new")  # not longer than names may be
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut after the renaming could leave a hole
        temporary.replace(path)
        sync_folder(path.parent)
    except Exception:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: bytes, temporary: Path | None = None) -> None:
    """Write a file whole or not at all (see `atomically`).

    Raises:
        BackendError: there is no such folder, or it can't be written to.
    """
    try:
        with atomically(path, temporary) as new:
            new.write_bytes(content)
    except OSError as error:
        raise BackendError(f"can't write {path}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
