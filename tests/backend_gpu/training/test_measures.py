import random
from dataclasses import replace

import numpy as np
import pytest

from backend_gpu.glide.config import Pixels
from backend_gpu.mini.vocabulary import load_vocabulary
from backend_gpu.training.measures import (
    background_colour,
    frame,
    ground_frames,
    nearest,
    number_of,
    object_mask,
    style_of,
    tint_of,
)
from backend_gpu.training.scenes import Mix, Scene, draw_place, draw_plain, random_scene, render

VOCABULARY = load_vocabulary()
COUNTS = {number: word for word, number in VOCABULARY.counts.items()}
APPLE = next(concept for concept in VOCABULARY.concepts if concept.english == "apple")


def drawn(scene: Scene, seed: int) -> Pixels:
    return render(scene, VOCABULARY, 64, random.Random(seed))


def test_the_background_is_read_in_the_corners_and_a_few_stray_pixels_do_not_matter() -> None:
    picture = np.full((64, 64, 3), (10, 20, 30), np.uint8)
    picture[5:-5] = picture[:, 5:-5] = 200
    picture[:2, :4] = 255
    assert background_colour(picture).tolist() == [10, 20, 30]


def test_the_frame_is_ten_pixels_wide() -> None:
    picture = np.full((64, 64, 3), 7, np.uint8)
    picture[10:-10, 10:-10] = 200
    pixels = frame(picture)
    assert pixels.shape == (64 * 64 - 44 * 44, 3)
    assert (pixels == 7).all()


def test_the_nearest_candidate_has_the_smallest_mean_difference() -> None:
    candidates = {"one outlier": np.array([0, 0, 9], np.float32), "near": np.array([2, 2, 2], np.float32)}
    assert nearest(np.zeros(3, np.float32), candidates) == "near"


def test_every_empty_ground_is_taken_for_itself() -> None:
    frames = ground_frames(VOCABULARY, 64)
    assert set(frames) == {"", *VOCABULARY.scenes, *VOCABULARY.colours}
    for name in frames:
        rng = random.Random(5)
        is_place = name in VOCABULARY.scenes
        ground = draw_place(name, 64, rng) if is_place else draw_plain(name, VOCABULARY, 64, rng)
        assert nearest(frame(ground), frames) == name


def test_nearly_every_tint_is_recognised_and_hardly_one_where_another_is_drawn() -> None:
    rng = random.Random(0)
    asked = [replace(random_scene(VOCABULARY, Mix(0, 1, 0, 0), rng), style="") for _ in range(40)]
    is_found, is_missed = [], []
    for seed, scene in enumerate(asked):
        colours = [colour for colour in VOCABULARY.colours if colour not in (scene.tint, scene.objects[0].colour)]
        other = replace(scene, tint=rng.choice(colours))
        is_found.append(tint_of(drawn(scene, seed), scene, VOCABULARY) == scene.tint)
        is_missed.append(tint_of(drawn(other, seed), scene, VOCABULARY) == scene.tint)
    assert np.mean(is_found) > 0.97  # where an object is shifted, some of the ground is in its mask
    assert np.mean(is_missed) < 0.03


def test_the_mask_covers_the_object_and_not_the_ground() -> None:
    scene = Scene(objects=(APPLE,), background="blue")
    picture, mask = drawn(scene, 0).astype(int), object_mask(scene, 64)
    is_blue = np.abs(picture - np.array(VOCABULARY.colours["blue"])).sum(-1) < 60
    assert is_blue[mask].mean() < 0.03  # the object may be shifted by a pixel
    assert is_blue[~mask].mean() > 0.9


@pytest.mark.parametrize("style", ["", *VOCABULARY.styles])
def test_a_style_is_recognised_whatever_it_was_asked_for(style: str) -> None:
    for seed, place in enumerate(VOCABULARY.scenes):
        scene = Scene(objects=(APPLE,), place=place, style=style)
        assert style_of(drawn(scene, seed), replace(scene, style="black and white"), VOCABULARY) == style, place


@pytest.mark.parametrize(("number", "word"), [(1, "one"), (2, "two"), (3, "three"), (4, "four")])
def test_objects_are_counted_whatever_number_was_asked_for(number: int, word: str) -> None:
    for seed, place in enumerate(VOCABULARY.scenes):
        scene = Scene(objects=(APPLE,) * number, place=place, counts=COUNTS)
        asked = replace(scene, objects=(APPLE,) * 3)
        assert number_of(drawn(scene, seed), asked, VOCABULARY) == word, place
