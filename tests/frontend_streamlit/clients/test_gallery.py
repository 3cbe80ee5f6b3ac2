import io
import json
import os
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from frontend_streamlit.clients.gallery import MAX_DESCRIPTION_BYTES, Gallery, GalleryUnavailable, zipped
from tests.frontend_streamlit.fake_backend import MINI
from tests.frontend_streamlit.pictures import RECORD, png_of, put_picture

ME, OTHER = "m" * 32, "o" * 32
TRICKS = [
    "",
    ".",
    "..",
    f"../{OTHER}",
    f"{ME}/../{OTHER}",
    "/etc",
    f"{OTHER}/",
    "a\0b",
    "a\nb",
    "*",
    "ö",
    "x" * 65,
    "%2e%2e",
]


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(str(tmp_path))


def test_pictures_are_listed_newest_first(gallery: Gallery, tmp_path: Path) -> None:
    names = [put_picture(tmp_path, ME, number) for number in (5, 61, 2)]
    assert gallery.names(ME) == [names[1], names[0], names[2]]


def test_a_picture_tells_how_it_was_made(gallery: Gallery, tmp_path: Path) -> None:
    name = put_picture(tmp_path, ME, 61, seed=9)
    picture = gallery.picture(ME, name)
    assert picture is not None
    assert picture.record == RECORD | {"seed": 9}
    assert (picture.seed, picture.prompt, picture.source_prompt) == (9, RECORD["prompt"], RECORD["source_prompt"])
    assert picture.made_at == datetime(2026, 11, 25, 0, 1, 1, tzinfo=UTC)
    assert picture.png == png_of(seed=9)


def test_a_picture_drawn_from_english_alone_is_known_by_it(gallery: Gallery, tmp_path: Path) -> None:
    picture = gallery.picture(ME, put_picture(tmp_path, ME, 1, source_prompt=""))
    assert picture is not None
    assert picture.source_prompt == RECORD["prompt"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("りんご", [1]),
        ("apple", [1]),
        ("APPLE blue", [1]),
        ("青い apple", [1]),
        ("猫", [2]),
        ("a", [2, 1]),
        ("   ", [3, 2, 1]),
        ("apple cat", []),
        ("[", []),
    ],
)
def test_search_reads_japanese_and_english(gallery: Gallery, tmp_path: Path, words: str, found: list[int]) -> None:
    put_picture(tmp_path, ME, 1)
    put_picture(tmp_path, ME, 2, prompt="a black cat", source_prompt="黒い猫")
    put_picture(tmp_path, ME, 3, prompt="", source_prompt="")
    assert [int(name.split("_")[1], 16) for name in gallery.search(ME, words)] == found


def test_what_is_no_picture_of_ours_is_passed_over(gallery: Gallery, tmp_path: Path) -> None:
    name = put_picture(tmp_path, ME, 1)
    folder = tmp_path / ME
    for foreign in (f".{name}.1234.new", "notes.txt", "holiday.png", f"{name}.bak", "20261125T000001_xyz_0.png"):
        (folder / foreign).write_bytes(png_of())
    (folder / f"20261125T000009_{9:032x}_0.png").mkdir()
    assert name in gallery.names(ME)
    assert [picture.name for picture in gallery.pictures(ME, gallery.names(ME))] == [name]
    assert gallery.search(ME, "apple") == [name]


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", png_of()[:60], png_of()[:-30], b"GIF89a", png_of().replace(b'{"prompt"', b'["prompt"')],
    ids=["empty", "text", "head", "without its end", "gif", "broken record"],
)
def test_a_broken_picture_is_passed_over(gallery: Gallery, tmp_path: Path, content: bytes) -> None:
    name = put_picture(tmp_path, ME, 1)
    (tmp_path / ME / name).write_bytes(content)
    assert gallery.picture(ME, name) is None
    assert gallery.search(ME, "apple") == []


def test_a_picture_whose_record_is_no_record_is_passed_over(tmp_path: Path) -> None:
    name = put_picture(tmp_path, ME, 1)
    for record in ("[]", "3", "null", '"text"'):
        info = PngImagePlugin.PngInfo()
        info.add_itxt("kotoe", record)
        Image.new("RGB", (2, 2)).save(tmp_path / ME / name, "PNG", pnginfo=info)
        assert Gallery(str(tmp_path)).picture(ME, name) is None, record


def test_an_owner_sees_only_their_own_pictures(gallery: Gallery, tmp_path: Path) -> None:
    mine, others = put_picture(tmp_path, ME, 1), put_picture(tmp_path, OTHER, 2)
    assert gallery.names(ME) == [mine]
    assert gallery.search(ME, "apple") == [mine]
    assert gallery.picture(ME, others) is None
    gallery.delete(ME, others)
    assert gallery.names(OTHER) == [others]


@pytest.mark.parametrize("owner", TRICKS)
def test_an_owner_that_is_no_safe_path_segment_is_refused(gallery: Gallery, tmp_path: Path, owner: str) -> None:
    name = put_picture(tmp_path, OTHER, 1)
    for act in (
        gallery.names,
        lambda o: gallery.search(o, "apple"),
        lambda o: gallery.picture(o, name),
        lambda o: gallery.delete(o, name),
    ):
        with pytest.raises(ValueError, match="no owner's name"):
            act(owner)
    assert gallery.names(OTHER) == [name]


@pytest.mark.parametrize("trick", [f"../{OTHER}/{{}}", "../../etc/passwd", "", ".", "{}/", "./{}", "{}\n", "{}\0"])
def test_a_name_that_leaves_the_folder_reaches_nothing(gallery: Gallery, tmp_path: Path, trick: str) -> None:
    name = put_picture(tmp_path, OTHER, 1)
    put_picture(tmp_path, ME, 1)
    assert gallery.picture(ME, trick.format(name)) is None
    with pytest.raises(ValueError, match="no picture's name"):
        gallery.delete(ME, trick.format(name))
    assert gallery.names(OTHER) == [name]


def test_a_deleted_picture_is_gone_at_once_even_if_it_was_looked_at(gallery: Gallery, tmp_path: Path) -> None:
    name = put_picture(tmp_path, ME, 1)
    assert gallery.picture(ME, name)
    gallery.delete(ME, name)
    assert gallery.names(ME) == []
    assert gallery.picture(ME, name) is None
    gallery.delete(ME, name)  # again: nothing to do


def test_a_picture_that_is_being_written_appears_when_it_is_complete(gallery: Gallery, tmp_path: Path) -> None:
    name = put_picture(tmp_path, ME, 1)
    path = tmp_path / ME / name
    path.rename(tmp_path / "aside")
    assert gallery.picture(ME, name) is None
    (tmp_path / "aside").rename(path)
    assert gallery.picture(ME, name) is not None


def test_an_owner_without_pictures_has_an_empty_gallery(gallery: Gallery, tmp_path: Path) -> None:
    assert gallery.names(ME) == []
    assert Gallery(str(tmp_path / "not" / "there" / "yet")).names(ME) == []


def test_a_gallery_that_cant_be_reached_says_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for root in (str(file), "invented://bucket"):
        gallery = Gallery(root)
        with pytest.raises(GalleryUnavailable):
            gallery.names(ME)
        with pytest.raises(GalleryUnavailable):
            gallery.search(ME, "apple")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_gallery_without_permission_says_so(gallery: Gallery, tmp_path: Path) -> None:
    put_picture(tmp_path, ME, 1)
    (tmp_path / ME).chmod(0)
    with pytest.raises(GalleryUnavailable):
        gallery.names(ME)


def test_a_zip_holds_the_files_as_they_are(gallery: Gallery, tmp_path: Path) -> None:
    names = [put_picture(tmp_path, ME, number, seed=number) for number in (1, 2)]
    pictures = [picture for name in names if (picture := gallery.picture(ME, name))]
    with zipfile.ZipFile(io.BytesIO(zipped(pictures))) as archive:
        assert archive.namelist() == names
        assert archive.read(names[1]) == png_of(seed=2)


def test_the_model_is_described_beside_the_pictures(gallery: Gallery, tmp_path: Path) -> None:
    assert gallery.description() is None
    (tmp_path / ".model").mkdir()
    too_large = json.dumps(MINI | {"padding": "x" * MAX_DESCRIPTION_BYTES}).encode()
    for content in (b"", b"\xff", b"[]", b"[" * 100_000, b'{"id": "kotoe-mini"}', too_large):
        (tmp_path / ".model" / "description.json").write_bytes(content)
        assert gallery.description() is None
    (tmp_path / ".model" / "description.json").write_text(json.dumps(MINI), encoding="utf-8")
    model = gallery.description()
    assert model is not None
    assert model.id == "kotoe-mini"
    gallery.root = "invented://bucket"
    with pytest.raises(GalleryUnavailable):
        gallery.description()
