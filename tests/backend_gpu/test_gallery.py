import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
import requests
from gcp_storage_emulator.server import Server, create_server  # type: ignore[import-untyped] # has no types

from backend_gpu.errors import GalleryUnavailable
from backend_gpu.gallery import Gallery, picture_name

PNG = b"\x89PNG " + bytes(range(256)) * 500


def test_names_sort_by_time() -> None:
    times = [0.0, 1_000_000_000.5, 1_800_000_000.0, 1_800_000_001.0]
    names = [picture_name(time, job_id, index) for index, (time, job_id) in enumerate(zip(times, "dcba", strict=True))]
    assert names == sorted(names)
    assert picture_name(1_800_000_000.9, "ab12", 3) == "20270115T080000_ab12_3.png"


# A folder


def test_a_picture_that_was_cut_off_is_overwritten_by_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = Gallery(str(tmp_path))

    def die(_: int) -> None:
        raise KeyboardInterrupt  # like SIGKILL: nothing is tidied up

    monkeypatch.setattr("os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        gallery.write("anna", "a.png", PNG[:10])
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "anna").iterdir()] == [".a.png.new"]
    gallery.write("anna", "a.png", PNG)
    assert [path.name for path in (tmp_path / "anna").iterdir()] == ["a.png"]


def test_a_folder_gives_back_what_was_written(tmp_path: Path) -> None:
    gallery = Gallery(f"{tmp_path}/new/gallery/")
    for _ in range(2):  # the second time changes nothing
        gallery.write("anna", "a.png", PNG)
    assert gallery.read("anna", "a.png") == PNG
    assert (tmp_path / "new" / "gallery" / "anna" / "a.png").read_bytes() == PNG
    assert len(list((tmp_path / "new").rglob("*.png*"))) == 1


def test_a_picture_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert Gallery(str(tmp_path)).read("anna", "a.png") is None


def test_a_folder_that_is_gone_is_told_and_works_when_it_is_back(tmp_path: Path) -> None:
    root = tmp_path / "gallery"
    root.write_text("not a folder")
    gallery = Gallery(str(root))
    with pytest.raises(GalleryUnavailable, match=r"gallery.*check the path"):
        gallery.write("anna", "a.png", PNG)
    with pytest.raises(GalleryUnavailable):
        gallery.read("anna", "a.png")
    root.unlink()
    gallery.write("anna", "a.png", PNG)
    assert gallery.read("anna", "a.png") == PNG


# A bucket: the real client against an emulator of the storage service


class Emulator:
    """A storage service with the bucket `kotoe`, on a port that stays the same."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._server: Server | None = None

    def start(self) -> None:
        self._server = create_server("127.0.0.1", self.port, in_memory=True, default_bucket="kotoe")
        self._server.start()

    def stop(self) -> None:
        if self._server:
            self._server.stop()
        self._server = None


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    for name in ("gcp_storage_emulator", "gcsfs"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)
    made = Emulator()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{made.port}")
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})  # the emulator knows no accounts
    made.start()
    yield made
    made.stop()


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize("root", ["gs://kotoe", "gs://kotoe/pictures/of all/"])
def test_a_bucket_gives_back_what_was_written(root: str) -> None:
    gallery = Gallery(root)
    for _ in range(2):
        gallery.write("anna", "a.png", PNG)
    assert gallery.read("anna", "a.png") == PNG
    assert gallery.read("anna", "b.png") is None
    assert gallery.read("ben", "a.png") is None


def test_an_object_is_where_the_page_looks_for_it_and_a_picture_to_browsers(emulator: Emulator) -> None:
    Gallery("gs://kotoe/pictures").write("anna", "a.png", PNG)
    url = f"http://127.0.0.1:{emulator.port}/storage/v1/b/kotoe/o/pictures%2Fanna%2Fa.png"
    info = requests.get(url, timeout=10).json()
    assert (info["size"], info["contentType"]) == (str(len(PNG)), "image/png")


@pytest.mark.usefixtures("emulator")
def test_a_bucket_that_does_not_exist_is_told() -> None:
    with pytest.raises(GalleryUnavailable, match="gs://another"):
        Gallery("gs://another").write("anna", "a.png", PNG)


@pytest.mark.usefixtures("emulator")
def test_a_client_that_was_opened_too_early_is_not_used_for_ever() -> None:
    gallery = Gallery("gs://kotoe/pictures")
    with pytest.MonkeyPatch.context() as booting:  # nor are there credentials yet
        booting.setitem(fsspec.config.conf, "gs", {"token": "anon", "endpoint_url": "http://127.0.0.1:1"})
        booting.setattr("backend_gpu.gallery.BUCKET_TIMEOUT_S", 0.2)
        with pytest.raises(GalleryUnavailable):
            gallery.write("anna", "a.png", PNG)
    gallery.write("anna", "a.png", PNG)
    assert gallery.read("anna", "a.png") == PNG


def test_a_bucket_that_does_not_answer_is_told_and_works_when_it_is_back(emulator: Emulator) -> None:
    gallery = Gallery("gs://kotoe/pictures")
    gallery.write("anna", "a.png", PNG)
    emulator.stop()
    accesses: list[Callable[[], object]] = [
        lambda: gallery.write("anna", "b.png", PNG),
        lambda: gallery.read("anna", "a.png"),
    ]
    with pytest.MonkeyPatch.context() as impatient:
        impatient.setattr("backend_gpu.gallery.BUCKET_TIMEOUT_S", 0.2)
        for access in accesses:
            with pytest.raises(GalleryUnavailable, match="gs://kotoe/pictures"):
                access()
    emulator.start()
    gallery.write("anna", "b.png", PNG)
    assert gallery.read("anna", "b.png") == PNG
