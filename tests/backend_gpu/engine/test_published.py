import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from backend_gpu.engine.published import open_published, published_hash
from backend_gpu.errors import CheckpointError
from backend_gpu.glide.checkpoint import PUBLISHED, Published, write_weights
from backend_gpu.glide.metadata import read_metadata
from backend_gpu.glide.unet import UNet
from tests.backend_gpu.glide.tiny_checkpoint import TINY, in_published_form, run, tiny_model


@pytest.fixture
def model() -> UNet:
    return tiny_model()


@dataclass
class Release:
    """The folder behind a loopback server, and what was asked of it."""

    folder: Path
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def release(
    tmp_path_factory: pytest.TempPathFactory, model: UNet, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Release]:
    """Stands in for the published "base-inpaint", with the tiny model as its content."""
    release = Release(tmp_path_factory.mktemp("release"))
    torch.save(in_published_form(model.state_dict()), release.folder / "base_inpaint.pt")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            release.asked.append(self.path)
            super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(release.folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/base_inpaint.pt"
        monkeypatch.setitem(PUBLISHED, "base-inpaint", Published(url, TINY))
        yield release
        server.shutdown()
        thread.join()


def test_a_published_model_opens_from_nothing(release: Release, tmp_path: Path, model: UNet) -> None:
    folder = tmp_path / "new" / "folder"
    loaded = open_published("base-inpaint", folder, torch.float32)
    assert torch.equal(run(loaded), run(model))
    assert release.asked == ["/base_inpaint.pt"]
    assert {"base-inpaint.float32.safetensors", "base_inpaint.pt", "base_inpaint.pt.sha256"} <= {
        file.name for file in folder.iterdir()
    }


def test_a_conversion_tells_its_source(release: Release, tmp_path: Path) -> None:
    open_published("base-inpaint", tmp_path, torch.float32)
    digest = hashlib.sha256((release.folder / "base_inpaint.pt").read_bytes()).hexdigest()
    metadata = read_metadata(tmp_path / "base-inpaint.float32.safetensors")
    assert metadata == {"source": "base_inpaint.pt", "source_sha256": digest}


def test_a_checkpoint_that_changed_since_its_first_use_is_refused(release: Release, tmp_path: Path) -> None:
    open_published("base-inpaint", tmp_path, torch.float32)
    torch.save({}, tmp_path / "base_inpaint.pt")
    with pytest.raises(CheckpointError, match="changed since it was fetched"):
        open_published("base-inpaint", tmp_path, torch.float16)
    assert len(release.asked) == 1


def test_a_converted_model_needs_its_source_no_more(release: Release, tmp_path: Path) -> None:
    open_published("base-inpaint", tmp_path, torch.bfloat16)
    (tmp_path / "base_inpaint.pt").unlink()
    open_published("base-inpaint", tmp_path, torch.bfloat16)
    assert len(release.asked) == 1


def test_a_second_dtype_is_made_of_the_same_source(release: Release, tmp_path: Path) -> None:
    open_published("base-inpaint", tmp_path, torch.bfloat16)
    loaded = open_published("base-inpaint", tmp_path, torch.float16)
    assert next(loaded.parameters()).dtype == torch.float16
    assert len(release.asked) == 1


def test_float16_alone_serves_every_dtype_without_a_source(release: Release, tmp_path: Path, model: UNet) -> None:
    open_published("base-inpaint", tmp_path, torch.float16)
    (tmp_path / "base_inpaint.pt").unlink()
    files = sorted(tmp_path.iterdir())
    loaded = open_published("base-inpaint", tmp_path, torch.float32)
    assert torch.allclose(run(loaded), run(model), atol=0.01)  # weights rounded to 11 bits
    assert sorted(tmp_path.iterdir()) == files  # an image's folder is read-only
    assert len(release.asked) == 1


def test_a_source_put_there_by_hand_is_not_fetched(release: Release, tmp_path: Path) -> None:
    (tmp_path / "base_inpaint.pt").write_bytes((release.folder / "base_inpaint.pt").read_bytes())
    open_published("base-inpaint", tmp_path, torch.float16)
    assert release.asked == []


def test_two_that_start_at_once_fetch_once(release: Release, tmp_path: Path) -> None:
    opened: list[UNet] = []
    threads = [
        threading.Thread(target=lambda: opened.append(open_published("base-inpaint", tmp_path, torch.float16)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 3
    assert len(release.asked) == 1


def test_a_folder_that_cannot_be_used_ends_with_advice(release: Release, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="make the folder writable or choose another"):
        open_published("base-inpaint", tmp_path / "file", torch.float16)
    assert release.asked == []


def test_published_weights_keep_their_hash_when_another_precision_is_converted(tmp_path: Path) -> None:
    def convert(dtype: str, source: str = "1") -> None:
        for kind in ("base", "upsample", "base-inpaint"):
            metadata = {"source_sha256": f"{kind} {source}"}
            write_weights(tmp_path / f"{kind}.{dtype}.safetensors", {"w": torch.zeros(1)}, metadata)

    convert("float16")
    alone = published_hash(tmp_path, torch.float16)
    assert published_hash(tmp_path, torch.float32) == alone  # half precision serves it too
    convert("bfloat16")
    convert("float32")
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert published_hash(tmp_path, dtype) == alone
    convert("float32", source="2")
    assert published_hash(tmp_path, torch.float32) != alone
    assert published_hash(tmp_path, torch.float16) == alone
