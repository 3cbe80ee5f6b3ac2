from pathlib import Path

import pytest

from backend_gpu.errors import BackendError
from backend_gpu.files import write_file

PNG = b"\x89PNG " + bytes(range(256)) * 500


def test_a_picture_replaces_one_of_the_same_name(tmp_path: Path) -> None:
    for png in (b"old", PNG):
        write_file(tmp_path / "a.png", png)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == PNG


def test_a_failed_write_leaves_the_old_picture_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "a.png", b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(BackendError, match="No space left on device"):
        write_file(tmp_path / "a.png", PNG)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackendError, match="Not a directory"):
        write_file(tmp_path / "file" / "a.png", PNG)
