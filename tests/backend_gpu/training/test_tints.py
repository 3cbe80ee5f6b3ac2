import colorsys

import numpy as np
import pytest
from PIL import Image

from backend_gpu.mini.vocabulary import Concept, load_vocabulary
from backend_gpu.training.scenes import glyph_image
from backend_gpu.training.tints import SHADES, tinted

VOCABULARY = load_vocabulary()
TINTABLE = [concept for concept in VOCABULARY.concepts if concept.is_tintable]
EYE, SHADOW, BODY, LIGHT = (30, 30, 30), (140, 90, 60), (200, 130, 90), (240, 220, 200)


def painted(colour: str, body: tuple[int, int, int] = BODY) -> list[list[int]]:
    """Eye, shadow, body and light of a small glyph, most of it body, in a colour."""
    row = np.array([[EYE, SHADOW, body, body, body, body, body, body, body, LIGHT]], np.uint8)
    alpha = np.full((*row.shape[:2], 1), 255, np.uint8)
    drawn = np.asarray(tinted(Image.fromarray(np.concatenate([row, alpha], -1)), SHADES[colour]))
    return [drawn[0, place, :3].tolist() for place in (0, 1, 2, 9)]


def hue(rgb: list[int]) -> float:
    """In degrees."""
    return colorsys.rgb_to_hsv(*(channel / 255 for channel in rgb))[0] * 360


def test_every_colour_of_the_grammar_has_shades_around_itself() -> None:
    assert SHADES.keys() == VOCABULARY.colours.keys()
    for name, (_, _, body, _) in SHADES.items():
        assert np.abs(np.array(body) - VOCABULARY.colours[name]).max() <= 25, name  # black is lit, to show its shadows


@pytest.mark.parametrize("concept", TINTABLE, ids=lambda concept: concept.english)
def test_a_good_part_of_a_thing_has_the_colour_itself_however_pale_or_dark_it_was(concept: Concept) -> None:
    opaque = np.asarray(glyph_image(concept))[..., 3] > 128
    for name, shades in SHADES.items():
        pixels = np.asarray(tinted(glyph_image(concept), shades))[opaque][:, :3].astype(int)
        assert (np.abs(pixels - shades[2]).mean(-1) < 12).mean() > 0.2, name


@pytest.mark.parametrize("colour", SHADES)
def test_eyes_are_darker_than_shadows_those_than_the_body_and_lights_are_lightest(colour: str) -> None:
    tones = [sum(tone) for tone in painted(colour)]
    assert tones == sorted(tones)
    assert len(set(tones)) == 4


def test_the_shadows_of_yellow_are_ochre_and_not_khaki() -> None:
    _, shadow, body, _ = painted("yellow")
    assert hue(shadow) < hue(body) - 5
    assert max(shadow) > 200


def test_white_has_cool_shadows_and_black_has_lights_that_can_be_seen() -> None:
    red, _, blue = painted("white")[1]
    assert blue > red + 20
    assert min(painted("black")[3]) > 120


def test_a_saturated_body_is_no_shadow_beside_grey_tyres() -> None:
    eye, _, body, _ = painted("blue", body=(220, 10, 20))  # as dark as the grey of its tyres, by luminance
    assert body == list(SHADES["blue"][2])
    assert sum(eye) < 0.6 * sum(body)


def test_a_flat_glyph_stays_flat() -> None:
    flat = Image.new("RGBA", (8, 8), (250, 120, 120, 255))
    assert np.asarray(tinted(flat, SHADES["green"]))[..., :3].reshape(-1, 3).tolist() == [list(SHADES["green"][2])] * 64
