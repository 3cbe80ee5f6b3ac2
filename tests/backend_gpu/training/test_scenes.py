import colorsys
import random
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from backend_gpu.errors import BackendError, ConceptTableError
from backend_gpu.glide.config import Pixels
from backend_gpu.mini.vocabulary import Concept, load_vocabulary, with_article
from backend_gpu.training.fonts import emoji_font, label_font
from backend_gpu.training.scenes import (
    HELD_OUT_ONE_IN,
    Mix,
    Scene,
    draw_place,
    draw_plain,
    glyph_image,
    is_held_out,
    random_scene,
    render,
)

VOCABULARY = load_vocabulary()
COUNTS = {number: word for word, number in VOCABULARY.counts.items()}
NAMED = {concept.english: concept for concept in VOCABULARY.concepts}
DOG, CAT, APPLE, DOLPHIN = (NAMED[english] for english in ("dog", "cat", "apple", "dolphin"))
EVEN_MIX = Mix(one=0.25, tinted=0.25, count=0.25, pair=0.25)
SIDE = 64


def picture_of(scene: Scene, seed: int = 0, side: int = SIDE) -> Pixels:
    return render(scene, VOCABULARY, side, random.Random(seed))


def ground_of(scene: Scene, seed: int = 0) -> Pixels:
    """The same picture without its objects: the ground is drawn first, from the same random numbers."""
    rng = random.Random(seed)
    if scene.place:
        return draw_place(scene.place, SIDE, rng)
    return draw_plain(scene.background, VOCABULARY, SIDE, rng)


def covered_by_objects(scene: Scene, seed: int = 0) -> NDArray[np.bool_]:
    return np.asarray((picture_of(scene, seed) != ground_of(scene, seed)).any(-1))


def box(x: float, y: float, half: float) -> tuple[slice, slice]:
    """Rows and columns of the square around a point; all are shares of the side."""
    rows, columns = (slice(max(0, round((c - half) * SIDE)), round((c + half) * SIDE)) for c in (y, x))
    return rows, columns


def drawn_scenes(number: int, mix: Mix = EVEN_MIX, seed: int = 0) -> list[Scene]:
    rng = random.Random(seed)
    return [random_scene(VOCABULARY, mix, rng) for _ in range(number)]


@pytest.mark.parametrize(
    ("scene", "caption"),
    [
        (Scene(objects=(DOG,)), "a dog"),
        (Scene(objects=(NAMED["owl"],)), "an owl"),
        (Scene(objects=(NAMED["ufo"],)), "a ufo"),
        (Scene(objects=(NAMED["unicorn"],)), "a unicorn"),
        (Scene(objects=(NAMED["umbrella"],), says_colour=True), "a purple umbrella"),
        (Scene(objects=(APPLE,), says_colour=True), "a red apple"),
        (Scene(objects=(DOG,), says_colour=True), "a dog"),  # it has no single colour
        (Scene(objects=(DOG,), tint="orange"), "an orange dog"),
        (Scene(objects=(CAT,), tint="light blue", says_colour=True), "a light blue cat"),
        (Scene(objects=(APPLE,), background="orange"), "an apple on an orange background"),
        (Scene(objects=(APPLE,), background="light blue"), "an apple on a light blue background"),
        (Scene(objects=(DOG,), place="in the snow"), "a dog in the snow"),
        (Scene(objects=(DOG,) * 2, counts=COUNTS), "two dogs"),
        (Scene(objects=(NAMED["sheep"],) * 4, counts=COUNTS, place="at night"), "four sheep at night"),
        (Scene(objects=(APPLE,) * 3, counts=COUNTS, says_colour=True), "three red apples"),
        (Scene(objects=(CAT, NAMED["house"]), relation="to the left of"), "a cat to the left of a house"),
        (Scene(objects=(NAMED["ant"], APPLE), relation="below"), "an ant below an apple"),
        (Scene(objects=(APPLE, CAT), relation="and", says_colour=True), "an apple and a cat"),
        (Scene(objects=(CAT,), style="pixel art style"), "a cat, pixel art style"),
        (
            Scene(objects=(APPLE, CAT), relation="above", background="blue", style="black and white"),
            "an apple above a cat on a blue background, black and white",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_scene_is_told_in_the_form_of_the_grammar(scene: Scene, caption: str) -> None:
    assert scene.caption() == caption


def test_one_caption_never_means_two_different_scenes() -> None:
    meant: dict[str, Scene] = {}
    for scene in drawn_scenes(4000):
        shown = replace(scene, says_colour=False)  # naming the glyph's own colour changes nothing in the picture
        assert meant.setdefault(scene.caption(), shown) == shown


def test_random_scenes_have_every_form_and_only_what_the_grammar_allows() -> None:
    scenes = drawn_scenes(1500)
    forms = {(len(scene.objects), bool(scene.relation), bool(scene.tint)) for scene in scenes}
    assert forms == {(1, False, False), (1, False, True), (2, True, False), *((n, False, False) for n in (2, 3, 4))}
    for scene in scenes:
        assert not (scene.place and scene.background)
        assert not scene.tint or (scene.objects[0].is_tintable and scene.tint != scene.objects[0].colour)
        assert len(set(scene.objects)) == (2 if scene.relation else 1)
    assert {scene.place for scene in scenes} == {"", *VOCABULARY.scenes}
    assert {scene.background for scene in scenes} == {"", *VOCABULARY.colours}
    assert {scene.style for scene in scenes} == {"", *VOCABULARY.styles}
    assert {scene.relation for scene in scenes} == {"", "and", *VOCABULARY.positions}


@pytest.mark.parametrize(
    ("mix", "objects", "is_tinted"),
    [(Mix(1, 0, 0, 0), {1}, False), (Mix(0, 1, 0, 0), {1}, True), (Mix(0, 0, 1, 0), {2, 3, 4}, False)],
)
def test_the_mix_says_which_forms_are_drawn(mix: Mix, objects: set[int], is_tinted: bool) -> None:
    scenes = drawn_scenes(60, mix)
    assert {len(scene.objects) for scene in scenes} == objects
    assert {bool(scene.tint) for scene in scenes} == {is_tinted}


@pytest.mark.parametrize("side", [16, 64, 256])
def test_a_picture_is_square_rgb_of_the_asked_side(side: int) -> None:
    picture = picture_of(Scene(objects=(DOG, APPLE), relation="above", place="in the rain"), side=side)
    assert picture.shape == (side, side, 3)
    assert picture.dtype == np.uint8


def test_equal_random_numbers_give_equal_pictures_and_others_give_others() -> None:
    for scene in drawn_scenes(20):
        assert np.array_equal(picture_of(scene, seed=3), picture_of(scene, seed=3))
        assert not np.array_equal(picture_of(scene, seed=3), picture_of(scene, seed=4))


def test_a_large_picture_shows_the_same_as_a_small_one() -> None:
    scene = Scene(objects=(DOG,), background="blue")
    large = Image.fromarray(picture_of(scene, side=4 * SIDE)).resize((SIDE, SIDE), Image.Resampling.BOX)
    difference = np.abs(np.asarray(large, int) - picture_of(scene))
    assert difference.mean() < 4  # half a pixel's shift along the outlines: sides and places are rounded


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_objects_stand_at_their_places_and_nowhere_else(number: int) -> None:
    side = 0.70 if number == 1 else 0.42
    for seed in range(5):
        scene = Scene(objects=(APPLE,) * number, background="blue")
        covered = covered_by_objects(scene, seed)
        assert len(scene.positions()) == number
        for x, y in scene.positions():
            assert covered[box(x, y, side / 2)].mean() > 0.5  # an apple fills most of its square
            covered[box(x, y, 1.05 * side / 2 + 0.04)] = False  # as large and as far off as it may be, and rounded
        assert not covered.any()


@pytest.mark.parametrize(
    ("relation", "direction"),
    [
        ("to the left of", (-1, 0)),
        ("to the right of", (1, 0)),
        ("above", (0, -1)),
        ("below", (0, 1)),
        ("and", (-1, 0)),
    ],
)
def test_the_first_of_two_objects_stands_on_the_said_side_of_the_second(
    relation: str, direction: tuple[int, int]
) -> None:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for objects, sign in (((APPLE, DOLPHIN), 1), ((DOLPHIN, APPLE), -1)):
        scene = Scene(objects=objects, relation=relation)
        picture, covered = picture_of(scene).astype(int), covered_by_objects(scene)
        redness = (picture[..., 0] - picture[..., 2]) * covered
        (apple_x, apple_y), (dolphin_x, dolphin_y) = (
            (columns[chosen].mean(), rows[chosen].mean()) for chosen in (redness > 60, redness < -60)
        )
        offset = np.array([apple_x - dolphin_x, apple_y - dolphin_y]) * sign
        # Their centres are 0.46 sides apart; a glyph's reds or blues may lie a few pixels from its centre.
        assert np.abs(offset - 0.46 * SIDE * np.array(direction)).max() < 7, objects


def test_a_tinted_object_is_drawn_in_shades_of_its_tint() -> None:
    for concept in (concept for concept in VOCABULARY.concepts if concept.is_tintable):
        for tint, rgb in VOCABULARY.colours.items():
            scene = Scene(objects=(concept,), tint=tint)
            mean = picture_of(scene)[covered_by_objects(scene)].mean(0)
            hue, saturation, _ = colorsys.rgb_to_hsv(*mean / 255)
            wanted_hue, wanted_saturation, _ = colorsys.rgb_to_hsv(*(channel / 255 for channel in rgb))
            if wanted_saturation < 0.15:
                assert saturation < 0.25, scene.caption()
            else:
                apart = abs(hue - wanted_hue)
                assert min(apart, 1 - apart) * 360 < 12, scene.caption()


@pytest.mark.parametrize("concept", [DOG, CAT, NAMED["car"]], ids=lambda concept: concept.english)
def test_black_is_darker_than_gray_and_gray_than_white(concept: Concept) -> None:
    means = [picture_of(Scene(objects=(concept,), tint=tint)).mean() for tint in ("black", "gray", "white")]
    assert means == sorted(means)
    assert means[2] - means[0] > 10


def test_objects_stand_out_from_their_background() -> None:
    scenes = [replace(scene, style="") for scene in drawn_scenes(700, Mix(0.7, 0.3, 0, 0), seed=1) if scene.background]
    for seed, scene in enumerate(scenes):
        covered = covered_by_objects(scene, seed)
        own, ground = (picture[covered].mean(0) for picture in (picture_of(scene, seed), ground_of(scene, seed)))
        # An orange on orange has 26 here; thin glyphs, of which most is outline, lie nearest to the limit.
        assert np.abs(own - ground).sum() > 55, scene.caption()


def test_the_own_colour_of_an_object_is_no_background_for_it() -> None:
    scenes = drawn_scenes(2500, Mix(0.5, 0.5, 0, 0), seed=2)
    assert not [scene.caption() for scene in scenes if scene.tint and scene.background == scene.tint]
    assert not [scene for scene in scenes if scene.objects == (NAMED["tomato"],) and scene.background == "red"]


@pytest.mark.parametrize("place", VOCABULARY.scenes)
def test_a_place_is_drawn_around_the_object_and_unlike_every_other_ground(place: str) -> None:
    scene = Scene(objects=(APPLE,), place=place)
    corner = (slice(0, 8), slice(0, 8))
    assert np.array_equal(picture_of(scene)[corner], ground_of(scene)[corner])
    mean = ground_of(scene).astype(np.float32)
    for other in VOCABULARY.scenes:
        if other != place:
            assert np.abs(mean - ground_of(Scene(objects=(APPLE,), place=other), seed=1)).mean() > 15, other


def test_a_plain_background_is_near_its_colour_everywhere() -> None:
    for colour, rgb in VOCABULARY.colours.items():
        assert np.abs(draw_plain(colour, VOCABULARY, SIDE, random.Random(0)) - np.array(rgb)).max() <= 16, colour


def test_pixel_art_is_made_of_one_colour_blocks() -> None:
    for side in (64, 256):
        picture = picture_of(Scene(objects=(DOG,), place="at the beach", style="pixel art style"), side=side)
        blocks = picture.reshape(16, side // 16, 16, side // 16, 3)
        assert (blocks == blocks[:, :1, :, :1]).all()
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 30


def test_black_and_white_is_grey_and_as_light_as_the_colours_were() -> None:
    scene = Scene(objects=(APPLE,), background="yellow")
    picture = picture_of(replace(scene, style="black and white"))
    assert (picture == picture[..., :1]).all()
    luminance = picture_of(scene) @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    assert np.abs(picture[..., 0] - luminance).max() < 1.5


def test_watercolor_is_softer_and_paler() -> None:
    scene = Scene(objects=(DOG,), background="blue")
    plain, soft = (picture_of(replace(scene, style=style)).astype(int) for style in ("", "watercolor style"))
    assert soft.min() >= int(255 * 0.28)
    assert soft.mean() > plain.mean() + 10
    assert np.abs(np.diff(soft, axis=1)).mean() < 0.72 * np.abs(np.diff(plain, axis=1)).mean()


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="'oil painting'"):
        picture_of(Scene(objects=(DOG,), style="oil painting"))


def test_a_character_without_an_emoji_is_refused() -> None:
    with pytest.raises(ConceptTableError, match="nothing to see of 'あ'"):
        glyph_image(replace(DOG, glyph="あ"))


def test_a_concept_may_be_a_picture_instead_of_an_emoji(tmp_path: Path) -> None:
    red = Image.new("RGBA", (40, 20), (255, 0, 0, 255))
    cut_out = Image.new("RGBA", (100, 60), (0, 0, 0, 0))
    cut_out.paste(red, (50, 30))
    cut_out.save(tmp_path / "brick.png")
    square = glyph_image(replace(DOG, glyph=str(tmp_path / "brick.png")))
    assert square.size == (40, 40)
    assert square.getbbox() == (0, 10, 40, 30)
    red.convert("RGB").save(tmp_path / "photo.jpg", quality=95)
    brick = Concept(str(tmp_path / "photo.jpg"), "brick", "bricks", colour="red", is_tintable=False)
    drawn = picture_of(Scene(objects=(brick,), background="blue"))
    assert drawn[32, 32, 0] > 200 > drawn[32, 32, 2]
    assert drawn[2, 2, 2] > 150 > drawn[2, 2, 0]


def test_a_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConceptTableError, match=r"can't read the picture .*brick\.png"):
        glyph_image(replace(DOG, glyph=str(tmp_path / "brick.png")))


def test_a_font_of_ones_own_draws_the_emoji(tmp_path: Path) -> None:
    own = Path(shutil.copy(str(emoji_font("").path), tmp_path / "own.ttf"))
    assert glyph_image(replace(DOG, font=str(own))).tobytes() == glyph_image(DOG).tobytes()
    own.with_name("broken.ttf").write_bytes(b"no font")
    with pytest.raises(BackendError, match=r"broken\.ttf is no font"):
        glyph_image(replace(DOG, font=str(own.with_name("broken.ttf"))))


def test_without_fontconfig_every_font_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match=r"fc-match does not run .*: install fontconfig"):
        label_font("sans", 12)
    with pytest.raises(BackendError, match=r"fc-match does not run .*: install fontconfig"):
        emoji_font.__wrapped__("")


def test_a_lone_concept_without_colours_is_drawn_alone_and_in_numbers() -> None:
    alone = replace(VOCABULARY, concepts=(replace(DOLPHIN, is_tintable=False),))
    rng = random.Random(0)
    scenes = [random_scene(alone, EVEN_MIX, rng) for _ in range(50)]
    assert not any(scene.tint or scene.relation for scene in scenes)


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        (Scene(objects=(NAMED["tulip"],), tint="red"), True),
        (Scene(objects=(NAMED["pear"],) * 2, counts=COUNTS), True),
        (Scene(objects=(NAMED["egg"],) * 3, counts=COUNTS), True),
        (Scene(objects=(DOG,), tint="blue"), False),
        (Scene(objects=(DOG,), place="at night"), False),
        (Scene(objects=(CAT,) * 2, counts=COUNTS), False),
    ],
    ids=lambda value: value.caption() if isinstance(value, Scene) else "",
)
def test_what_is_held_out_stays_held_out_in_every_version(scene: Scene, expected: bool) -> None:
    assert is_held_out(scene) is expected


def test_a_bare_noun_is_never_held_out() -> None:
    assert not [concept.english for concept in VOCABULARY.concepts if is_held_out(Scene(objects=(concept,)))]
    hashes = [zlib.crc32(with_article(concept.english).encode()) for concept in VOCABULARY.concepts]
    assert any(value % HELD_OUT_ONE_IN == 0 for value in hashes)  # the hash alone would


def test_about_one_caption_in_twenty_five_is_held_out() -> None:
    captions = {scene.caption(): scene for scene in drawn_scenes(6000) if len(scene.caption().split()) > 3}
    share = np.mean([is_held_out(scene) for scene in captions.values()])
    assert 0.032 < share < 0.048  # more than two standard deviations
