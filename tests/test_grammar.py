"""Training and the page's translator read the same two files, each with its own code: what they make of them agrees."""

import pytest

from backend_gpu.mini.vocabulary import load_vocabulary, with_article
from frontend_streamlit.translation.japanese_lexicon import Lexicon
from frontend_streamlit.translation.offline import DEFAULT_DATA_DIR

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
    ["a ufo", "a ufos", "a ukulele", "a unicorn", "a unicycle", "a eucalyptus", "a one-eyed cat", "a herb", "a house"]
    + ["an hourglass", "an heirloom", "an umbrella", "an urn", "an orange ufo", "a purple umbrella", "an unidentified ufo"],
)
def test_an_article_goes_by_the_sound(phrase: str) -> None:
    article, noun = phrase.split(" ", 1)
    assert (with_article(noun), LEXICON.articles.apply(noun)) == (f"{article} {noun}",) * 2
