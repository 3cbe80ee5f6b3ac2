from copy import deepcopy
from typing import Any

import pytest

from frontend_streamlit.clients.model import ModelDescription, Vocabulary, read_description
from tests.frontend_streamlit.fake_backend import MINI, OPEN, PROMPT_WORDS, SMALL


def vocabulary(**changes: Any) -> Vocabulary:
    found = read_description(MINI | {"vocabulary": MINI["vocabulary"] | changes}).vocabulary
    assert found is not None
    return found


@pytest.mark.parametrize("document", [MINI, OPEN, SMALL], ids=lambda document: str(document["id"]))
def test_a_description_is_read(document: dict[str, Any]) -> None:
    model = read_description(document | {"added": "later"})
    assert isinstance(model, ModelDescription)
    assert [stage.steps_field for stage in model.stages] == [stage["steps_field"] for stage in document["stages"]]
    assert (model.vocabulary is None) == (document["vocabulary"] is None)


@pytest.mark.parametrize("missing", sorted(ModelDescription.model_fields.keys() - {"has_negative_prompt"}))
def test_a_description_without_a_part_is_none(missing: str) -> None:
    document = deepcopy(MINI)
    del document[missing]
    with pytest.raises(ValueError, match=missing):
        read_description(document)


@pytest.mark.parametrize(
    "changes",
    [
        {"stages": []},
        {"stages": [MINI["stages"][0] | {"steps_field": "refine_steps"}]},
        {"samplers": []},
        {"qualities": {"fast": {"base": 10}}},
        {"vocabulary": MINI["vocabulary"] | {"word_pattern": "("}},
        {"guidance": {"default": 1.0}},
    ],
    ids=str,
)
def test_a_description_that_no_form_could_be_drawn_from_is_none(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        read_description(MINI | changes)


def test_words_outside_the_vocabulary_are_found() -> None:
    assert vocabulary().unknown_words("A red apple, on a t-shirt on a BLUE background") == ["t-shirt"]


@pytest.mark.parametrize("case", PROMPT_WORDS["cases"], ids=lambda case: ascii(case["prompt"]))
def test_words_are_unknown_by_the_rule_that_the_model_states(case: dict[str, Any]) -> None:
    rule = {name: PROMPT_WORDS[name] for name in ("word_pattern", "function_words")}
    assert vocabulary(words=PROMPT_WORDS["vocabulary"], **rule).unknown_words(case["prompt"]) == case["unknown_words"]


def test_a_phrase_is_experimental_only_as_whole_words_and_named_in_both_languages() -> None:
    words = vocabulary(experimental=["pixel art style", "black"])
    assert words.experimental_phrases("a blackbird, Pixel Art Style") == ["pixel art style"]
    assert (words.name_of("pixel art style", "ja"), words.name_of("black", "ja")) == ("ドット絵", "black")
