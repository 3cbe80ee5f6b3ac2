"""What the mini model reads of a prompt. `tests/data/prompt_words.json` is for the page's tests too."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend_gpu.engine import BatchSettings, Drawing, Engine, finished
from backend_gpu.engine.mini import open_engine
from backend_gpu.errors import InvalidRequest
from backend_gpu.mini.vocabulary import load_vocabulary
from backend_gpu.mini.words import FUNCTION_WORDS, WORD_PATTERN, PromptWords, words_of
from backend_gpu.settings import Settings
from backend_gpu.training.scenes import Mix, random_scene

TABLE = json.loads((Path(__file__).parents[2] / "data" / "prompt_words.json").read_text(encoding="utf-8"))
WORDS = PromptWords(TABLE["vocabulary"], load_vocabulary())
ONE_STEP = BatchSettings(sampler="ddim", steps={"base": 1})


@pytest.fixture(scope="module")
def engine() -> Engine:
    return open_engine(Settings(device="cpu"))


def test_the_table_of_cases_has_the_rule_that_the_model_tells() -> None:
    assert TABLE["word_pattern"] == WORD_PATTERN
    assert TABLE["function_words"] == list(FUNCTION_WORDS)


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: ascii(case["prompt"]))
def test_a_prompt_has_these_words_and_those_are_unknown(case: dict[str, Any]) -> None:
    assert words_of(case["prompt"]) == case["words"]
    assert WORDS.unknown(case["prompt"]) == case["unknown_words"]


@pytest.mark.parametrize(
    ("prompt", "readable"),
    [
        ("a red apple on a blue background", "a red apple on a blue background"),
        ("I want a red apple on a blue background", "a red apple on a blue background"),
        ("a red apple, please", "a red apple"),
        ("a zebra and a cat", "a cat"),
        ("a cat and a zebra", "a cat"),
        ("a red zebra and a cat in the snow", "a cat in the snow"),
        ("two zebras, a dog and a cat", "a dog and a cat"),
        ("a zebra to the left of a cat", "a cat"),
        ("a cat to the left of a zebra", "a cat"),
        ("a zebra above a cat and a dog", "a cat and a dog"),
        ("a cat on a turquoise background", "a cat"),
        ("a cat on a light blue background, wow", "a cat on a light blue background"),
        ("in the snow a fluffy cat", "a cat in the snow"),
        ("a fluffy cat, black and white", "a cat, black and white"),
        ("a zebra, watercolor style", "a , watercolor style"),
        ("a zebra", "a"),
        ("the cat", "a cat"),
        ("a picture of a cat", "a cat"),
        ("a picture of a cat and a zebra in the forest", "a cat"),
        ("an image of a red cat in the snow", "a red cat in the snow"),
        ("a man holding a red hat, a cat", "a cat"),
        ("a red and truly huge cat", "a red cat"),
        ("a very big red and shiny apple", "a red apple"),
        ("a red zebra and a cat", "a cat"),
        ("two or three red apples", "three red apples"),
        ("a cat in front of a red apple", "a cat and a red apple"),
        ("a cat, a dog", "a cat and a dog"),
        ("a cat on a bright blue background", "a cat on a blue background"),
        ("an cat", "a cat"),
        ("a cats", "two cats"),
        ("cat", "a cat"),
        ("Cat.", "a cat"),
        ("red apple", "a red apple"),
        ("cats", "two cats"),
        ("three cats", "three cats"),
        ("apple and dog", "an apple and a dog"),
        ("cat, watercolor style", "a cat, watercolor style"),
        ("cat on a blue background", "a cat on a blue background"),
        ("cat to the left of dog in the snow", "a cat to the left of a dog in the snow"),
        ("blue", "blue"),
        ("in the snow", "in the snow"),
    ],
)
def test_a_prompt_is_read_in_the_form_of_a_caption_without_what_hangs_on_unknown_words(
    prompt: str, readable: str
) -> None:
    assert WORDS.readable(prompt) == readable


def test_a_caption_is_read_as_it_is() -> None:
    vocabulary, rng, mix = load_vocabulary(), random.Random(0), Mix(one=0.25, tinted=0.25, count=0.25, pair=0.25)
    words = PromptWords(vocabulary.words(), vocabulary)
    assert [words.readable(prompt) for prompt in ("orange", "fish", "sheep")] == ["an orange", "a fish", "a sheep"]
    for caption in [random_scene(vocabulary, mix, rng).caption() for _ in range(500)]:
        assert words_of(words.readable(caption)) == words_of(caption)


@pytest.mark.parametrize(
    "prompt",
    [
        *("🍎", "🍎🍌", "...", "!!!", "()", "、。", "\u200b", "\u00ad-\u2060", "a the of", "a café", "사과", "３"),
        "zebrafish on a blue background",
    ],
)
def test_a_prompt_of_which_the_model_can_draw_nothing_is_refused(engine: Engine, prompt: str) -> None:
    with pytest.raises(InvalidRequest, match=r"no word that says what to draw|can draw none of this"):
        engine.check_prompt(prompt)


def test_what_to_stay_away_from_need_not_be_a_thing(engine: Engine) -> None:
    assert engine.check_prompt("text, watermark, red", is_negative=True) == ["text", "watermark"]
    with pytest.raises(InvalidRequest, match="none of this: text, watermark"):
        engine.check_prompt("text, watermark", is_negative=True)


def test_unknown_words_change_nothing_in_the_picture(engine: Engine) -> None:
    def drawn(prompt: str, negative_prompt: str) -> Any:
        drawing = Drawing(prompt=prompt, negative_prompt=negative_prompt, seed=1, guidance_scale=2.5)
        return finished(engine.generate([drawing], ONE_STEP))

    plain = drawn("a red apple on a blue background", "a dog")
    assert engine.check_prompt("I want a ｒｅｄ apple on a blue background!") == ["i", "want"]
    assert np.array_equal(drawn("I want a ｒｅｄ ap\u00adple on a blue background!", "a zzz dog"), plain)
    assert not np.array_equal(drawn("a green apple on a blue background", "a dog"), plain)


def test_words_that_the_model_does_not_know_take_no_room(engine: Engine) -> None:
    engine.check_prompt("please " * 100 + "a red apple")
    with pytest.raises(InvalidRequest, match=r"has \d+ tokens, at most"):
        engine.check_prompt("a red apple and " * 20)
