"""Training and the page's translator read the same two files, each with its own code: what they make of them agrees."""

import random

import pytest

from backend_gpu.engine import mini
from backend_gpu.mini.vocabulary import load_vocabulary, with_article
from backend_gpu.settings import Settings
from backend_gpu.training.scenes import Mix, random_scene
from frontend_streamlit.translation.offline import DEFAULT_DATA_DIR, OfflineTranslator
from frontend_streamlit.translation.offline.lexicon import Lexicon

VOCABULARY = load_vocabulary()
LEXICON = Lexicon.read(DEFAULT_DATA_DIR)
PHRASES = [
    phrase
    for concept in VOCABULARY.concepts
    for noun in (concept.english, concept.plural)
    for phrase in (noun, *(f"{colour} {noun}" for colour in VOCABULARY.colours))
]


def test_captions_and_translations_put_the_same_article_before_every_phrase() -> None:
    for phrase in (*PHRASES, *VOCABULARY.colours, *VOCABULARY.styles, *VOCABULARY.scenes):
        assert with_article(phrase) == LEXICON.articles.apply(phrase)


def test_no_concept_or_colour_has_another_article_than_the_published_weights_learned() -> None:
    for phrase in (*(concept.english for concept in VOCABULARY.concepts), *VOCABULARY.colours):
        learned = "an" if phrase[0] in "aeiou" and phrase not in ("ufo", "unicorn") else "a"
        assert with_article(phrase) == f"{learned} {phrase}"


@pytest.mark.parametrize(
    "phrase",
    [
        *(
            "a ufo",
            "a ufos",
            "a ukulele",
            "a unicorn",
            "a unicycle",
            "a eucalyptus",
            "a one-eyed cat",
            "a herb",
            "a usual cat",
            "a utensil",
            "a one",
            "a house",
        ),
        *(
            "an hourglass",
            "an 8-bit cat",
            "an 11th cat",
            "an x-ray",
            "an heirloom",
            "an umbrella",
            "an urn",
            "an orange ufo",
            "an unidentified ufo",
            "a purple egg",
        ),
    ],
)
def test_an_article_goes_by_the_sound(phrase: str) -> None:
    article, noun = phrase.split(" ", 1)
    assert (with_article(noun), LEXICON.articles.apply(noun)) == (f"{article} {noun}",) * 2


def test_the_limits_are_those_of_the_pictures_that_training_draws() -> None:
    rng = random.Random(0)
    mix = Mix(one=0.25, tinted=0.25, count=0.25, pair=0.25)
    scenes = [random_scene(VOCABULARY, mix, rng) for _ in range(4000)]
    kinds = [len({concept.english for concept in scene.objects}) for scene in scenes]
    numbered = [count for scene, count in zip(scenes, kinds, strict=True) if not scene.relation and scene.objects[1:]]
    tinted = [scene for scene in scenes if scene.tint]
    limits = LEXICON.limits
    assert max(kinds) == limits.things
    assert max(numbered) == limits.things_beside_a_number
    assert max(len({concept.english for concept in scene.objects}) for scene in tinted) == limits.things_beside_a_tint
    assert max(len(scene.objects) for scene in tinted) == limits.number_in_a_tint
    assert max(bool(scene.background) + bool(scene.place) for scene in scenes) == limits.grounds
    assert max(len(list(filter(None, [scene.style]))) for scene in scenes) == limits.styles
    assert max(len(scene.objects) for scene in scenes) == LEXICON.largest_number
    assert {scene.objects[0].english for scene in tinted} == LEXICON.tintable


def test_both_readers_know_the_same_own_colours() -> None:
    assert {c.english: c.colour for c in VOCABULARY.concepts if c.colour} == LEXICON.own_colours


def test_the_examples_of_the_embedded_model_say_the_same_in_both_languages() -> None:
    translator = OfflineTranslator(DEFAULT_DATA_DIR)
    for example in mini.describe(Settings()).examples:
        translation = translator.translate(example.ja)
        assert (translation.english, translation.unknown_words, translation.not_drawn) == (example.en, (), ())
