import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from backend_gpu.errors import CheckpointError
from backend_gpu.glide import checkpoint
from backend_gpu.glide.checkpoint import (
    PUBLISHED,
    PublishedKind,
    empty_unet,
    load_unet,
    read_published,
    to_our_names,
    write_weights,
)
from backend_gpu.glide.config import BASE, UNetConfig
from backend_gpu.glide.metadata import read_metadata
from backend_gpu.glide.unet import UNet
from tests.backend_gpu.glide.tiny_checkpoint import KEYS, TINY, in_published_form, official, run, tiny_model


@pytest.fixture
def model() -> UNet:
    return tiny_model()


@pytest.fixture
def source(tmp_path: Path, model: UNet) -> Path:
    """A small checkpoint as published: the official names, in the format of torch.save."""
    path = tmp_path / "base.pt"
    torch.save(in_published_form(model.state_dict()), path)
    return path


def convert(source: Path, converted: Path, config: UNetConfig, dtype: torch.dtype) -> None:
    write_weights(converted, read_published(source, config), {}, dtype)


@pytest.fixture
def converted(tmp_path: Path, source: Path) -> Path:
    path = tmp_path / "converted.safetensors"
    convert(source, path, TINY, torch.float32)
    return path


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
