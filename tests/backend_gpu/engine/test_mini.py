"""What the mini model says of itself; how it draws is tested with the pipeline and its weights."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from backend_gpu.engine.mini import describe, open_engine, sprites_of
from backend_gpu.engine.pipeline import PipelineEngine
from backend_gpu.errors import CheckpointError
from backend_gpu.mini.metadata import WEIGHTS, trained_concepts
from backend_gpu.settings import Settings

INDEX = {"side": 2, "columns": 2, "things": ["apple", "dog", "owl"]}


def test_the_embedded_sprites_show_exactly_what_the_embedded_model_draws() -> None:
    sprites = describe(Settings()).sprites
    assert sprites is not None
    assert sprites.things == tuple(trained_concepts())
    rows = -(-len(sprites.things) // sprites.columns)
    with Image.open(sprites.sheet) as sheet:
        assert (sheet.format, sheet.size) == ("WEBP", (sprites.columns * sprites.side, rows * sprites.side))
    assert sprites.sheet.stat().st_size < 1_000_000  # a page loads it at once
    assert sprites.sheet.parent == WEIGHTS


def test_a_model_of_ones_own_need_have_no_sprites(tmp_path: Path) -> None:
    assert sprites_of(tmp_path) is None


@pytest.mark.parametrize("missing", ["sprites.webp", "sprites.json"])
def test_sprites_without_their_other_file_are_refused(tmp_path: Path, missing: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "sprites.webp")
    (tmp_path / "sprites.json").write_text(json.dumps(INDEX))
    assert sprites_of(tmp_path) is not None
    (tmp_path / missing).unlink()
    with pytest.raises(CheckpointError, match=f"No such file .*{missing}.*or delete both"):
        sprites_of(tmp_path)


@pytest.mark.parametrize(
    "index", ["", "[]", "{}", json.dumps(INDEX | {"side": 0}), json.dumps(INDEX | {"things": "apple"})]
)
def test_a_broken_index_of_sprites_is_refused(tmp_path: Path, index: str) -> None:
    (tmp_path / "sprites.webp").touch()
    (tmp_path / "sprites.json").write_text(index)
    with pytest.raises(CheckpointError, match=r"sprites\.json .* do not go together"):
        sprites_of(tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_it_computes_in_what_is_fastest_on_the_cpu(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr("backend_gpu.glide.acceleration.best_dtype", lambda _: dtype)
    engine = open_engine(Settings(device="cpu"))
    assert isinstance(engine, PipelineEngine)
    for network in (engine.pipeline.base, engine.pipeline.upsampler):
        assert {parameter.dtype for parameter in network.parameters()} == {dtype}
