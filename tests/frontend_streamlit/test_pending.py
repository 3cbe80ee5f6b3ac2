import pytest

from frontend_streamlit.backend_client import JobRequest
from frontend_streamlit.pending import Pending, from_link, seal, to_link

ME, OTHER = "m" * 32, "o" * 32
PENDING = Pending(JobRequest(prompt="a red apple", source_prompt="赤いりんご", owner=ME, n=2, seed=None, steps=20))


def test_what_waits_comes_back_from_the_link() -> None:
    assert from_link(to_link(PENDING), ME) == PENDING


def test_every_request_has_a_key_of_its_own() -> None:
    assert Pending(PENDING.request).key != PENDING.key


def test_the_longest_request_fits_into_a_link_and_comes_back() -> None:
    text = "".join(chr(0x4E00 + place * 7 % 20000) for place in range(1000))
    longest = Pending(JobRequest(prompt=text, source_prompt=text[::-1], negative_prompt=text, owner=ME))
    assert len(to_link(longest)) < 16_000
    assert from_link(to_link(longest), ME) == longest


def test_a_link_does_not_tell_the_owner_and_is_refused_by_another() -> None:
    assert ME not in to_link(PENDING)
    assert from_link(to_link(PENDING), OTHER) is None


@pytest.mark.parametrize("word", [None, "", ".", "a", "a.b", "é.é", "x" * 10_000])
def test_anything_else_is_nothing(word: str | None) -> None:
    assert from_link(word, ME) is None


def test_a_link_that_was_changed_is_nothing() -> None:
    packed, _, sealed = to_link(PENDING).partition(".")
    assert from_link(f"{packed[:-1]}A.{sealed}", ME) is None


@pytest.mark.parametrize("packed", ["", "aGVsbG8", "!", "eJyrrgUAAXUA-Q", "eJwDAAAAAAE"])
def test_a_link_of_another_version_is_nothing(packed: str) -> None:
    assert from_link(f"{packed}.{seal(packed, ME)}", ME) is None
