import io
import json
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import requests
from gcp_storage_emulator.server import Server, create_server  # type: ignore[import-untyped] # has no types
from numpy.typing import NDArray
from PIL import Image

from backend_gpu.errors import BackendError, GalleryUnavailable
from backend_gpu.gallery import Gallery, PictureRecord, encode_png, picture_name, write_picture

RECORD = PictureRecord(
    prompt="a red apple,\n 2 blue dogs",
    source_prompt="赤いりんごと🐕二匹、「背景」は雪\n",
    translator="offline",
    negative_prompt="",
    seed=7,
    guidance_scale=2.5,
    steps=20,
    upsample_steps=4,
    sampler="dpmpp_2m",
    upscale=True,
    model="kotoe-mini",
    model_hash="0123456789abcdef" * 4,
)
PNG = b"\x89PNG " + bytes(range(256)) * 500


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


def chunks_of(png: bytes) -> dict[str, str]:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return {str(key): str(value) for key, value in image.info.items()}


# The file


def test_the_pixels_survive(pixels: NDArray[np.uint8]) -> None:
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels, RECORD)))), pixels)


def test_the_parameters_are_as_other_programs_write_them(pixels: NDArray[np.uint8]) -> None:
    record = replace(RECORD, negative_prompt="blurry,\nold")
    assert chunks_of(encode_png(pixels, record))["parameters"].splitlines() == [
        "a red apple, 2 blue dogs",
        "Negative prompt: blurry, old",
        "Steps: 20, Sampler: DPM++ 2M, CFG scale: 2.5, Seed: 7, Size: 24x16, Model: kotoe-mini, Model hash: 0123456789",
    ]


def test_without_a_negative_prompt_there_is_no_line_for_it(pixels: NDArray[np.uint8]) -> None:
    lines = chunks_of(encode_png(pixels, RECORD))["parameters"].splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("Steps: 20, ")


def test_the_picture_holds_all_that_made_it(pixels: NDArray[np.uint8]) -> None:
    record = json.loads(chunks_of(encode_png(pixels, RECORD))["kotoe"])
    versions = record.pop("versions")
    assert versions["torch"]
    assert PictureRecord(**record) == RECORD


def test_a_prompt_outside_latin_1_survives_in_the_parameters_too(pixels: NDArray[np.uint8]) -> None:
    record = replace(RECORD, prompt="りんご 🍎")
    assert chunks_of(encode_png(pixels, record))["parameters"].startswith("りんご 🍎\n")


def test_names_sort_by_time() -> None:
    times = [0.0, 1_000_000_000.5, 1_800_000_000.0, 1_800_000_001.0]
    names = [picture_name(time, job_id, index) for index, (time, job_id) in enumerate(zip(times, "dcba", strict=True))]
    assert names == sorted(names)
    assert picture_name(1_800_000_000.9, "ab12", 3) == "20270115T080000_ab12_3.png"


# Writing


def test_a_picture_replaces_one_of_the_same_name(tmp_path: Path) -> None:
    for png in (b"old", PNG):
        write_picture(tmp_path / "a.png", png)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == PNG


def test_a_failed_write_leaves_the_old_picture_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_picture(tmp_path / "a.png", b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(BackendError, match="No space left on device"):
        write_picture(tmp_path / "a.png", PNG)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackendError, match="Not a directory"):
        write_picture(tmp_path / "file" / "a.png", PNG)


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
