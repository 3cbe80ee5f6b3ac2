import random
from dataclasses import replace

import numpy as np
import pytest

from backend_gpu.glide.config import Pixels
from backend_gpu.mini.vocabulary import load_vocabulary
from backend_gpu.training.likeness import SPOILED, Fresh, Renders, bare_ground, calibrate, is_clear, is_object
from backend_gpu.training.scenes import Scene, render

VOCABULARY = load_vocabulary()
CONCEPTS = {concept.english: concept for concept in VOCABULARY.concepts}
DOG, APPLE = CONCEPTS["dog"], CONCEPTS["apple"]
SCENES = {
    "one": Scene(objects=(DOG,), place="at night"),
    "two": Scene(objects=(DOG, APPLE), relation="to the left of", background="white"),
}


def drawn(scene: Scene, side: int, seed: int = 1) -> Pixels:
    return render(scene, VOCABULARY, side, random.Random(seed))


def fresh(scene: Scene, renders: Renders, side: int) -> Fresh:
    ground = bare_ground(scene, VOCABULARY, side, random.Random(1))
    return Fresh(drawn(scene, side), ground, renders.windows, 1)


@pytest.mark.parametrize(("side", "number"), [(64, 40), (256, 4)])
def test_renders_are_clear_and_spoiled_ones_are_not(side: int, number: int) -> None:
    shares = calibrate(VOCABULARY, side, number)
    assert shares["untouched"] >= 0.95
    for name in SPOILED:
        assert shares[name] <= 0.05, name


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("side", [64, 256])
def test_the_more_blur_or_noise_the_farther(name: str, side: int) -> None:
    scene = SCENES[name]
    renders = Renders(scene, VOCABULARY, side)
    picture = fresh(scene, renders, side)
    for pictures in (map(picture.blurred, (1, 2, 4)), map(picture.noised, (10, 20, 40))):
        distances = [renders.distance(spoiled) for spoiled in pictures]
        assert distances == sorted(distances)
        assert distances[-1] > distances[0] + 0.1 > renders.distance(picture.picture)


def test_the_worst_of_several_objects_counts() -> None:
    scene = SCENES["two"]
    renders = Renders(scene, VOCABULARY, 64)
    picture = drawn(scene, 64)
    for other in (0, 1):
        spoiled = picture.copy()
        half = slice(32 * other, 32 + 32 * other)
        spoiled[:, half] = bare_ground(scene, VOCABULARY, 64, random.Random(1))[:, half]
        assert is_clear(renders.distance(picture))
        assert not is_clear(renders.distance(spoiled))


def test_another_object_is_not_like_the_one_asked_for() -> None:
    scene = Scene(objects=(DOG,), background="white")
    renders = Renders(scene, VOCABULARY, 64)
    assert not is_clear(renders.distance(drawn(replace(scene, objects=(APPLE,)), 64)))
    assert not is_clear(renders.distance(drawn(replace(scene, style="black and white"), 64)))


def test_a_small_shift_costs_nothing() -> None:
    scene = Scene(objects=(DOG,), background="white")
    renders = Renders(scene, VOCABULARY, 64)
    picture = drawn(scene, 64)
    shifted = np.roll(picture, (1, -1), (0, 1))
    assert renders.distance(shifted) == pytest.approx(renders.distance(picture), abs=0.02)
    assert not is_clear(renders.distance(np.roll(picture, (9, -9), (0, 1))))


def test_stars_elsewhere_cost_nothing() -> None:
    scene = SCENES["one"]
    renders = Renders(scene, VOCABULARY, 64)
    picture = drawn(scene, 64).copy()
    picture[:4] = picture[-4:] = 255
    assert renders.distance(picture) == renders.distance(drawn(scene, 64))


@pytest.mark.parametrize("style", ["", *VOCABULARY.styles])
def test_the_bare_ground_is_what_lies_behind_the_objects(style: str) -> None:
    scene = replace(SCENES["one"], style=style)
    ground = bare_ground(scene, VOCABULARY, 64, random.Random(1))
    mask = is_object(drawn(scene, 64), ground)
    assert 0.15 < mask.mean() < 0.6
    assert not mask[:6].any()
