import gzip
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from backend_gpu.errors import CheckpointError
from backend_gpu.glide import checkpoint
from backend_gpu.glide.checkpoint import (
    PUBLISHED,
    Published,
    PublishedKind,
    convert,
    empty_unet,
    load_unet,
    open_published,
    read_metadata,
    to_our_names,
    write_weights,
)
from backend_gpu.glide.config import BASE, TextConfig, UNetConfig
from backend_gpu.glide.unet import UNet

DATA = Path(__file__).parents[2] / "data"
KEYS: dict[PublishedKind, dict[str, list[int]]] = json.loads(
    gzip.decompress((DATA / "glide_keys.json.gz").read_bytes())
)
TINY = UNetConfig(
    image_size=16,
    num_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(8,),
    head_channels=32,
    text=TextConfig(vocab_size=20, context=4, width=32, layers=2, heads=2),
)
NUMBER = re.compile(r"\d+")


def official(kind: PublishedKind) -> dict[str, Tensor]:
    """Tensors of the published names and shapes that take no memory."""
    return {name: torch.empty(1).expand(shape) for name, shape in KEYS[kind].items()}


def in_published_form(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo the renaming: look up which official name becomes ours, whatever the numbers of the block."""
    templates = {
        NUMBER.sub("#", next(iter(to_our_names({name: tensor})))): (name, tensor.ndim)
        for kind in KEYS
        for name, tensor in official(kind).items()
    }
    published = {}
    for name, tensor in weights.items():
        template, ndim = templates[NUMBER.sub("#", name)]
        numbers = iter(NUMBER.findall(name))
        original = NUMBER.sub(lambda match: next(numbers, match[0]), template)  # noqa: B023 # it is called at once
        published[original] = tensor[..., None] if ndim == 3 else tensor
    return published


@pytest.fixture
def model() -> UNet:
    torch.manual_seed(0)
    model = UNet(TINY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
    return model


@pytest.fixture
def source(tmp_path: Path, model: UNet) -> Path:
    """A small checkpoint as published: the official names, in the format of torch.save."""
    path = tmp_path / "base.pt"
    torch.save(in_published_form(model.state_dict()), path)
    return path


@pytest.fixture
def converted(tmp_path: Path, source: Path) -> Path:
    path = tmp_path / "converted.safetensors"
    convert(source, path, TINY, torch.float32)
    return path


def run(model: UNet) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(2, 3, 16, 16, generator=generator), torch.tensor([7.0, 500.0])
    tokens, mask = (
        torch.tensor([[1, 2, 3, 0], [4, 0, 0, 0]]),
        torch.tensor([[True] * 3 + [False], [True] + [False] * 3]),
    )
    with torch.inference_mode():
        output = model(x, t, model.encode_text(tokens, mask))
    assert isinstance(output, Tensor)
    return output


@pytest.mark.parametrize("kind", PUBLISHED)
def test_renames_cover_every_published_parameter_and_no_other(kind: PublishedKind) -> None:
    renamed = to_our_names(official(kind))
    ours = empty_unet(PUBLISHED[kind].config).state_dict()
    assert {name: tensor.shape for name, tensor in renamed.items()} == {
        name: tensor.shape for name, tensor in ours.items()
    }
    assert len(renamed) == len(KEYS[kind])


def test_every_rename_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = to_our_names(official("base"))
    for rename in checkpoint.RENAMES:
        rest = tuple(other for other in checkpoint.RENAMES if other != rename)
        monkeypatch.setattr(checkpoint, "RENAMES", rest)
        assert to_our_names(official("base")).keys() != whole.keys(), rename
        monkeypatch.undo()


def test_published_addresses_are_those_of_the_release() -> None:
    names = [published.url.rpartition("/dec-2021/")[2] for published in PUBLISHED.values()]
    assert names == ["base.pt", "upsample.pt", "base_inpaint.pt", "upsample_inpaint.pt"]


def test_a_converted_checkpoint_computes_what_the_model_computed(model: UNet, converted: Path) -> None:
    loaded = load_unet(converted, TINY)
    assert torch.equal(run(loaded), run(model))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_conversion_rounds_to_the_dtype_asked_for(
    model: UNet, source: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    convert(source, tmp_path / "half.safetensors", TINY, dtype)
    loaded = load_unet(tmp_path / "half.safetensors", TINY).state_dict()
    assert all(torch.equal(loaded[name], tensor.to(dtype)) for name, tensor in model.state_dict().items())
    assert {tensor.dtype for tensor in loaded.values()} == {dtype}


def test_a_conversion_tells_its_source(source: Path, converted: Path) -> None:
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert read_metadata(converted) == {"source": "base.pt", "source_sha256": digest}


def test_a_checkpoint_in_the_old_format_is_converted_too(model: UNet, source: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.pt"
    torch.save(torch.load(source), old, _use_new_zipfile_serialization=False)
    convert(old, tmp_path / "x.safetensors", TINY, torch.float32)
    assert torch.equal(run(load_unet(tmp_path / "x.safetensors", TINY)), run(model))


def test_weights_may_be_cast_while_loading(model: UNet, converted: Path) -> None:
    loaded = load_unet(converted, TINY, torch.bfloat16).state_dict()
    assert all(torch.equal(loaded[name], tensor.bfloat16()) for name, tensor in model.state_dict().items())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_loaded_weights_are_pages_of_the_file(converted: Path) -> None:
    loaded = load_unet(converted, TINY, torch.float32)
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(converted) in line]
    areas = [[int(address, 16) for address in line[0].split("-")] for line in lines]
    for parameter in loaded.parameters():
        assert any(start <= parameter.data_ptr() < end for start, end in areas)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_an_empty_full_size_model_takes_no_memory() -> None:
    def anonymous_mb() -> int:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        return int(found[1]) // 1024

    before = anonymous_mb()
    model = empty_unet(BASE)
    assert sum(parameter.numel() for parameter in model.parameters()) == 385_030_726
    assert anonymous_mb() - before < 100  # initialised it would be 1,540


def test_initialisers_work_again_outside_the_empty_model() -> None:
    empty_unet(TINY)
    assert torch.nn.init.ones_(torch.zeros(2)).tolist() == [1, 1]
    assert torch.zeros(2).fill_(3).tolist() == [3, 3]


class Trap:
    """What a hostile checkpoint would carry: code that runs while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_cannot_run_code(tmp_path: Path, zipped: bool) -> None:
    torch.save({"a": Trap(tmp_path / "ran")}, tmp_path / "trap.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="can't be read as a checkpoint"):
        convert(tmp_path / "trap.pt", tmp_path / "x.safetensors", TINY, torch.float32)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"<html>Service unavailable</html>", b"PK\x03\x04 cut"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "base.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"base\.pt can't be read as a checkpoint: delete it"):
        convert(tmp_path / "base.pt", tmp_path / "x.safetensors", TINY, torch.float32)
    assert not (tmp_path / "x.safetensors").exists()


def test_a_checkpoint_cut_short_is_refused(source: Path, tmp_path: Path) -> None:
    source.write_bytes(source.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="can't be read as a checkpoint"):
        convert(source, tmp_path / "x.safetensors", TINY, torch.float32)


@pytest.mark.parametrize("content", [[1, 2], {"step": 3}, torch.ones(2)], ids=["list", "number", "tensor"])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "base.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        convert(tmp_path / "base.pt", tmp_path / "x.safetensors", TINY, torch.float32)


def test_a_missing_checkpoint_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        convert(tmp_path / "none.pt", tmp_path / "x.safetensors", TINY, torch.float32)


def test_a_checkpoint_that_changed_since_its_first_use_is_refused(source: Path, converted: Path) -> None:
    torch.save({}, source)
    with pytest.raises(CheckpointError, match="changed since it was fetched"):
        convert(source, converted, TINY, torch.float32)


def test_what_does_not_fit_is_named(source: Path, tmp_path: Path) -> None:
    weights = torch.load(source)
    del weights["time_embed.0.weight"]
    weights["label_emb.weight"] = torch.ones(1)
    weights["out.2.bias"] = torch.ones(3)
    torch.save(weights, source)
    with pytest.raises(
        CheckpointError,
        match=r"time_embed\.0\.weight is missing, label_emb\.weight is not of this model, out_conv\.bias is \(3,\) and",
    ):
        convert(source, tmp_path / "x.safetensors", TINY, torch.float32)


def test_only_the_first_misfits_are_named(converted: Path) -> None:
    with pytest.raises(CheckpointError, match=r"\(.{10,300} and \d+ more\): put the right file there") as caught:
        load_unet(converted, replace(TINY, num_channels=64))
    assert len(str(caught.value)) < 600


def test_broken_weights_end_with_advice(converted: Path) -> None:
    converted.write_bytes(converted.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"can't read the weights in .*delete a converted one"):
        load_unet(converted, TINY)
    with pytest.raises(CheckpointError, match="can't read the weights"):
        read_metadata(converted)


def test_missing_weights_are_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there are no weights at"):
        load_unet(tmp_path / "none.safetensors", TINY)
    with pytest.raises(CheckpointError, match="can't read the weights"):
        read_metadata(tmp_path / "none.safetensors")


def test_written_weights_come_back_in_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "mini.safetensors"
    layer = torch.nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the types of torch
    write_weights(path, layer.state_dict(), {"words": "a red apple"})
    loaded = load_file(path)
    assert read_metadata(path) == {"words": "a red apple"}
    assert torch.equal(loaded["weight"], layer.weight.half())
    assert path.stat().st_mode & 0o777 == 0o644
    assert [file.name for file in tmp_path.iterdir()] == ["mini.safetensors"]


def test_weights_that_cannot_be_written_end_with_advice(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"can't write .*choose another folder"):
        write_weights(tmp_path / "no folder" / "x.safetensors", {"a": torch.ones(1)}, {})


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
