import string
from collections.abc import Iterator, Mapping
from dataclasses import fields
from types import ModuleType
from typing import Any

import pytest

from frontend_streamlit.clients.backend import BackendError, LimitReached, QueueFull
from frontend_streamlit.clients.gallery import GalleryUnavailable
from frontend_streamlit.clients.gpu_vm import BootPhase, VmStatus
from frontend_streamlit.clients.gpu_vm_errors import GpuVmError
from frontend_streamlit.clients.model import Text
from frontend_streamlit.page import settings_form
from frontend_streamlit.texts import Texts, duration, sentence_for
from frontend_streamlit.texts.english import ENGLISH
from frontend_streamlit.texts.japanese import JAPANESE
from frontend_streamlit.translation import TranslationError

NEXT_STEPS = ("ください", "描けます")
ENGLISH_MAY_BE_TYPED = "英語を直接書"


def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for below in kind.__subclasses__():
        yield from subclasses(below)


ERRORS = [*subclasses(BackendError), *subclasses(TranslationError), *subclasses(GpuVmError), GalleryUnavailable]


def words_of(texts: Texts) -> dict[str, str]:
    """Every text by where it stands."""
    words: dict[str, str] = {}
    for field in fields(texts):
        value: Any = getattr(texts, field.name)
        if isinstance(value, Mapping):
            words |= {f"{field.name} {key}": text for key, text in value.items()}
        else:
            words[field.name] = value
    return words | {place: text.in_language("en" if texts is ENGLISH else "ja") for place, text in FORM.items()}


def texts_in(module: ModuleType) -> dict[str, Text]:
    """The texts that a file of the page has beside its widgets, by where they stand."""
    texts: dict[str, Text] = {}
    for name, value in vars(module).items():
        named = value if isinstance(value, dict) else {"": value}
        texts |= {f"{name} {key}": text for key, text in named.items() if isinstance(text, Text)}
    return texts


FORM = texts_in(settings_form)


def test_both_languages_say_the_same_things() -> None:
    assert words_of(JAPANESE).keys() == words_of(ENGLISH).keys()


@pytest.mark.parametrize("place", list(words_of(JAPANESE)))
def test_every_text_has_words_and_the_same_gaps_in_both_languages(place: str) -> None:
    japanese, english = words_of(JAPANESE)[place], words_of(ENGLISH)[place]
    assert japanese.strip()
    assert english.strip()
    gaps = [[part[1] for part in string.Formatter().parse(text) if part[1] is not None] for text in (japanese, english)]
    assert gaps[0] == gaps[1]


@pytest.mark.parametrize("place", list(words_of(ENGLISH)))
def test_english_has_no_japanese_in_it_but_what_names_itself(place: str) -> None:
    if place not in ("language", "prompt_hint"):
        assert words_of(ENGLISH)[place].replace("×", "x").replace("·", "").isascii()


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_japanese_sentence_with_a_next_step(kind: type[Exception]) -> None:
    if kind is BackendError:
        return  # only its kinds are raised
    sentence = sentence_for(kind("Google's own words"), JAPANESE)
    assert sentence != JAPANESE.unexpected_error
    assert sentence.endswith("。")
    assert any(step in sentence for step in NEXT_STEPS), sentence
    assert "Google's own words" not in sentence


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_no_two_kinds_of_error_say_the_same(kind: type[Exception]) -> None:
    if kind in JAPANESE.errors:
        for texts in (JAPANESE, ENGLISH):
            assert list(texts.errors.values()).count(texts.errors[kind]) == 1


@pytest.mark.parametrize("kind", [*subclasses(TranslationError)], ids=lambda kind: kind.__name__)
def test_who_gets_no_translation_is_told_that_english_can_be_typed(kind: type[Exception]) -> None:
    assert kind in JAPANESE.errors
    assert ENGLISH_MAY_BE_TYPED in sentence_for(kind(), JAPANESE)


@pytest.mark.parametrize("kind", [*subclasses(GpuVmError)], ids=lambda kind: kind.__name__)
def test_every_trouble_of_the_gpu_machine_has_a_sentence_of_its_own(kind: type[Exception]) -> None:
    assert kind in JAPANESE.errors


def test_every_phase_of_the_gpu_machine_has_words() -> None:
    for texts in (JAPANESE, ENGLISH):
        assert {*BootPhase, None, *VmStatus} - set(texts.gpu_phases) == {VmStatus.RUNNING}  # which has phases


def test_an_error_without_a_sentence_of_its_own_is_unexpected() -> None:
    assert sentence_for(RuntimeError("boom"), JAPANESE) == JAPANESE.unexpected_error


def test_a_time_to_wait_that_the_backend_told_is_told() -> None:
    assert sentence_for(QueueFull("full", retry_after_s=90), JAPANESE).endswith("約2分後に空きます。")
    assert sentence_for(QueueFull("full"), JAPANESE) == JAPANESE.errors[QueueFull]
    longest = sentence_for(LimitReached("quota", retry_after_s=120), JAPANESE)  # the backend tells no longer ones
    assert longest == JAPANESE.errors[LimitReached]


@pytest.mark.parametrize(
    ("seconds", "japanese", "english"),
    [
        (0, "1秒", "1 s"),
        (4.4, "4秒", "4 s"),
        (59.4, "59秒", "59 s"),
        (59.9, "1分", "1 min"),
        (89, "1分", "1 min"),
        (3600, "60分", "60 min"),
    ],
)
def test_a_duration_is_rounded_as_people_say_it(seconds: float, japanese: str, english: str) -> None:
    assert duration(seconds, JAPANESE) == japanese
    assert duration(seconds, ENGLISH) == english
