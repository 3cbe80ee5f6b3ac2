"""The page's gallery in a bucket, while the GPU machine is off: the real client, against an emulator on loopback."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import fsspec
import gcsfs
import pytest

from backend_gpu.gallery import Gallery as BackendGallery
from frontend_streamlit.clients import gallery as page_gallery
from frontend_streamlit.clients.gallery import Gallery, GalleryUnavailable
from frontend_streamlit.texts.japanese import JAPANESE
from tests.backend_gpu.test_gallery import Emulator, emulator
from tests.frontend_streamlit.fake_backend import CUT, MINI, FakeBackend
from tests.frontend_streamlit.page import ME, OTHER, Page
from tests.frontend_streamlit.pictures import png_of
from tests.loopback import serving

__all__ = ["emulator"]  # a fixture
ROOT = "gs://kotoe/pictures"


def put(owner: str, number: int, **record: str) -> str:
    """Lay a picture into the bucket as the backend does; a higher number is newer."""
    name = f"20261125T0000{number:02}_{number:032x}_0.png"
    BackendGallery(ROOT).write(owner, name, png_of(**record))
    return name


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_gallery, "BUCKET_TIMEOUT_S", 0.5)


@pytest.mark.usefixtures("emulator")
def test_the_owners_pictures_are_listed_newest_first() -> None:
    gallery = Gallery(ROOT)
    assert gallery.names(ME) == []
    names = [put(ME, number) for number in range(3)]
    put(OTHER, 4)
    assert gallery.names(ME) == names[::-1]
    names.append(put(ME, 5))  # by another process: nothing of an earlier list may be remembered
    assert gallery.names(ME) == names[::-1]


@pytest.mark.usefixtures("emulator")
def test_a_picture_is_read_with_its_record() -> None:
    name = put(ME, 1, source_prompt="黒い猫")
    gallery = Gallery(ROOT + "/")
    picture = gallery.picture(ME, name)
    assert picture is not None
    assert (picture.png, picture.source_prompt) == (png_of(source_prompt="黒い猫"), "黒い猫")
    assert gallery.picture(OTHER, name) is None
    assert gallery.picture(ME, name.replace("_0.png", "_1.png")) is None


@pytest.mark.usefixtures("emulator")
def test_pictures_are_found_by_their_words() -> None:
    put(ME, 1)
    cat = put(ME, 2, prompt="a black cat", source_prompt="黒い猫")
    assert Gallery(ROOT).search(ME, "猫") == Gallery(ROOT).search(ME, "BLACK cat") == [cat]


@pytest.mark.usefixtures("emulator")
def test_a_deleted_picture_is_gone_and_the_others_stay() -> None:
    gallery = Gallery(ROOT)
    names = [put(ME, number) for number in range(2)]
    assert len(gallery.pictures(ME, names)) == 2
    for _ in range(2):  # the second time it is gone already
        gallery.delete(ME, names[0])
        assert gallery.names(ME) == [names[1]]
    assert [picture.name for picture in gallery.pictures(ME, names)] == [names[1]]


@pytest.mark.usefixtures("emulator")
def test_the_model_is_described_beside_the_pictures() -> None:
    assert Gallery(ROOT).description() is None
    gcsfs.core.GCSFileSystem().pipe_file(f"{ROOT}/.model/description.json", json.dumps(MINI).encode())
    model = Gallery(ROOT).description()
    assert model is not None
    assert model.id == "kotoe-mini"


@pytest.mark.usefixtures("emulator")
def test_the_page_shows_the_bucket_while_the_backend_is_away(page: Page, backend: FakeBackend) -> None:
    name = put(ME, 1)
    page.change(gallery=Gallery(ROOT))
    backend.answer_with(CUT)
    page.open().go_to("gallery")
    assert len(page.images) == 1
    page.press("open_").press("delete_").press("open_").press("yes_")
    assert JAPANESE.no_pictures in page.run().words
    assert Gallery(ROOT).picture(ME, name) is None


@pytest.mark.usefixtures("impatient")
def test_a_bucket_that_does_not_answer_is_told_and_works_when_it_is_back(emulator: Emulator) -> None:
    gallery, name = Gallery(ROOT), put(ME, 1)
    emulator.stop()
    for access in (lambda: gallery.names(ME), lambda: gallery.picture(ME, name), lambda: gallery.delete(ME, name)):
        with pytest.raises(GalleryUnavailable):
            access()
    emulator.start()
    put(ME, 2)
    assert len(gallery.names(ME)) == 1


@pytest.fixture(params=[401, 403, 429, 503])
def refusing_bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A storage service that answers everything with one error, as Google writes it."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            error = {"code": request.param, "message": "page@kotoe.iam does not have storage.objects.list access"}
            body = json.dumps({"error": error | {"errors": [error]}}).encode()
            self.send_response(request.param)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 # as http.server calls them

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield


@pytest.mark.usefixtures("refusing_bucket", "impatient")
def test_a_bucket_that_refuses_is_told_whatever_is_asked(page: Page) -> None:
    gallery = Gallery(ROOT)
    name = f"20261125T000001_{1:032x}_0.png"
    for access in (lambda: gallery.names(ME), lambda: gallery.picture(ME, name), lambda: gallery.delete(ME, name)):
        with pytest.raises(GalleryUnavailable):
            access()
    page.change(gallery=gallery)
    page.open().go_to("gallery")
    assert JAPANESE.errors[GalleryUnavailable] in page.words
    assert "storage.objects" not in page.words
