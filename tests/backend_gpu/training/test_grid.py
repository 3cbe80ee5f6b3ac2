from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from backend_gpu.glide.config import Pixels, TextConfig, UNetConfig
from backend_gpu.glide.pipeline import Pipeline, Sampling
from backend_gpu.glide.tokenizer import WordTokenizer
from backend_gpu.glide.unet import UNet
from backend_gpu.mini.metadata import WEIGHTS, trained_concepts
from backend_gpu.mini.vocabulary import load_vocabulary
from backend_gpu.training import grid
from backend_gpu.training.plan import TEXT_CONTEXT
from frontend_streamlit.translation.offline import OfflineTranslator

PROMPTS = grid.read_prompts()
BASE = UNetConfig(
    image_size=16,
    num_channels=32,
    channel_mult=(1,),
    num_res_blocks=1,
    attention_resolutions=(),
    head_channels=32,
    text=TextConfig(vocab_size=4, context=8, width=32, layers=1, heads=1),
    patch_size=8,
)
UPSAMPLER = replace(BASE, image_size=64, in_channels=6, patch_size=32, text=None, noise_schedule="linear")


@pytest.fixture
def font() -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that nothing depends on what is installed."""
    found = ImageFont.load_default(grid.GRID.font_size)
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found


def cells(picture: Image.Image, columns: int, rows: int) -> list[Image.Image]:
    """The pictures and their labels, in the order of reading: 134 by 168 pixels each, after a margin of 6."""
    corners = [(6 + 134 * column, 6 + 168 * row) for row in range(rows) for column in range(columns)]
    return [picture.crop((left, top, left + 134, top + 168)) for left, top in corners]


def darkness(image: Image.Image) -> int:
    return int((255 - np.asarray(image.convert("L"), int)).sum())


def test_the_grid_has_sixty_four_different_prompts() -> None:
    assert len(PROMPTS) == 64
    assert len({prompt.japanese for prompt in PROMPTS}) == 64
    assert len({prompt.english for prompt in PROMPTS}) == 64


def test_the_english_of_a_prompt_is_what_the_offline_translator_writes() -> None:
    translator = OfflineTranslator()
    for prompt in PROMPTS:
        translation = translator.translate(prompt.japanese)
        assert translation.english == prompt.english
        assert translation.unknown_words == (), prompt.japanese


def test_the_embedded_model_has_learned_every_word_of_the_prompts() -> None:
    vocabulary, trained = load_vocabulary(), trained_concepts(WEIGHTS)
    concepts = tuple(concept for concept in vocabulary.concepts if concept.english in trained)
    words = replace(vocabulary, concepts=concepts).words()
    tokenizer = WordTokenizer(words, TEXT_CONTEXT)
    for prompt in PROMPTS:
        assert set(tokenizer.words(prompt.english)) <= set(words)
        assert tokenizer.count(prompt.english) <= TEXT_CONTEXT


def test_a_line_without_its_english_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("桜\ta cherry blossom\n猫\n", encoding="utf-8")
    with pytest.raises(TypeError):
        grid.read_prompts(path)


@pytest.mark.parametrize(("number", "size"), [(1, (1078, 174)), (8, (1078, 174)), (9, (1078, 342)), (64, (1078, 1350))])
def test_the_layout_has_eight_columns_and_as_many_rows_as_needed(
    number: int, size: tuple[int, int], font: ImageFont.FreeTypeFont
) -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    assert grid.lay_out([picture] * number, ["label"] * number, font, grid.GRID).size == size


def test_every_picture_is_enlarged_in_its_cell_above_its_label(font: ImageFont.FreeTypeFont) -> None:
    colours = [(10 * index, 100, 200 - 10 * index) for index in range(10)]
    pictures = [np.full((16, 16, 3), colour, np.uint8) for colour in colours]
    labels = ["", *["a label"] * 9]
    laid_out = grid.lay_out(pictures, labels, font, grid.GRID)
    for index, cell in enumerate(cells(laid_out, columns=8, rows=2)[:10]):
        assert (np.asarray(cell.crop((0, 0, 128, 128))) == colours[index]).all()
        assert (darkness(cell.crop((0, 128, 134, 168))) > 0) == bool(labels[index])
    assert darkness(cells(laid_out, columns=8, rows=2)[10]) == 0


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("a dog", ["a dog"]),
        ("a purple car on a white background", ["a purple car on a", "white background"]),
        (
            "a strawberry on a light blue background at night",
            ["a strawberry on a", "light blue", "background at night"],
        ),
    ],
)
def test_english_labels_are_broken_at_spaces(label: str, lines: Sequence[str], font: ImageFont.FreeTypeFont) -> None:
    broken = grid.broken(label, font, 128)
    assert [line.rstrip() for line in broken] == lines
    assert max(font.getlength(line.rstrip()) for line in broken) <= 128


def test_labels_without_spaces_are_broken_where_the_line_is_full(font: ImageFont.FreeTypeFont) -> None:
    label = "".join(chr(ord("A") + index) for index in range(20))
    first, second = grid.broken(label, font, 128)
    assert first + second == label
    assert font.getlength(first) <= 128 < font.getlength(first + second[0])


@pytest.mark.parametrize("languages", [["en", "ja"], ["en"]])
def test_all_prompts_are_drawn_with_one_seed_and_labelled_in_a_language_that_the_font_has(
    languages: list[str],
    font: ImageFont.FreeTypeFont,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    pipeline = Pipeline(UNet(BASE).eval(), UNet(UPSAMPLER).eval(), WordTokenizer(["a", "dog"], 8))
    labels: list[str] = []
    lay_out = grid.lay_out

    def seen(
        pictures: list[Pixels], given: list[str], chosen: ImageFont.FreeTypeFont, layout: grid.Layout
    ) -> Image.Image:
        labels.extend(given)
        return lay_out(pictures, given, chosen, layout)

    monkeypatch.setattr(grid, "label_font", lambda *_: (font, languages))
    monkeypatch.setattr(grid, "lay_out", seen)
    picture = grid.draw_grid(pipeline, Sampling(steps=1, upsample_steps=1), 1.0)
    assert picture.size == (1078, 1350)
    is_japanese = "ja" in languages
    assert labels == [prompt.japanese if is_japanese else prompt.english for prompt in PROMPTS]
    assert ("labels are in English" in capsys.readouterr().out) != is_japanese
    # The last layer of an untrained network is zero, so only their noise could tell the pictures apart.
    first, *others = (np.asarray(cell.crop((0, 0, 128, 128))) for cell in cells(picture, columns=8, rows=8))
    assert first.std() > 10
    assert all(np.array_equal(first, other) for other in others)
