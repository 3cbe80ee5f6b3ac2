import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from backend_gpu.engine.mini import sprites_of
from backend_gpu.glide.config import Pixels
from backend_gpu.glide.pipeline import Picture, Pipeline, Sampling
from backend_gpu.training import sheet


class Painter(Pipeline):
    """Draws for every prompt a colour of its own, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Picture] = []

    def draw(self, pictures: Sequence[Picture], sampling: Sampling) -> Pixels:
        del sampling
        self.asked += pictures
        return np.stack([np.full((256, 256, 3), colour_of(picture.prompt), np.uint8) for picture in pictures])


def colour_of(prompt: str) -> tuple[int, int, int]:
    return (len(prompt) * 7 % 256, ord(prompt[-1]), 90)


THINGS = ["dog", "owl", *(f"thing {'x' * index}" for index in range(26))]


def test_every_thing_is_drawn_once_plain_with_one_seed() -> None:
    painter = Painter()
    pictures = sheet.draw_things(painter, THINGS, Sampling(), 2.5)
    assert [picture.prompt for picture in painter.asked][:3] == ["a dog", "an owl", "a thing "]
    assert {(picture.seed, picture.guidance_scale) for picture in painter.asked} == {(0, 2.5)}
    assert [tuple(picture[0, 0]) for picture in pictures] == [colour_of(picture.prompt) for picture in painter.asked]


def test_the_sheet_shows_every_thing_above_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "label_font", lambda _, size: (ImageFont.load_default(size), []))
    pictures = [np.full((256, 256, 3), (index, 100, 90), np.uint8) for index in range(len(THINGS))]
    drawn = np.asarray(sheet.label_things(pictures, THINGS))
    assert drawn.shape == (2 * (110 + 6 + 30) + 6, 26 * 116 + 6, 3)
    assert tuple(drawn[60, 60]) == (0, 100, 90)
    assert tuple(drawn[60 + 146, 60 + 116]) == (27, 100, 90)
    assert drawn[117:146, 6:116].min() < 120


def test_the_sprites_are_what_the_service_finds_beside_the_weights(tmp_path: Path) -> None:
    colours = [(9 * index, 200 - 5 * index, 90) for index in range(len(THINGS))]
    pictures = [np.full((256, 256, 3), colour, np.uint8) for colour in colours]
    written = sheet.write_sprites(pictures, THINGS, tmp_path)
    found = sprites_of(tmp_path)
    assert found is not None
    assert (found.sheet, found.things) == (written, tuple(THINGS))
    with Image.open(found.sheet) as image:
        assert image.format == "WEBP"
        assert image.size == (26 * 64, 2 * 64)
        pixels = np.asarray(image.convert("RGB"), int)
    for index, colour in enumerate(colours):
        row, column = divmod(index, found.columns)
        middle = pixels[row * found.side + found.side // 2, column * found.side + found.side // 2]
        assert np.abs(middle - colour).max() < 12  # WebP loses a little
    assert json.loads((tmp_path / "sprites.json").read_text())["things"] == THINGS
