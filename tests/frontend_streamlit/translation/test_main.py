"""`python -m frontend_streamlit.translation`, which `make image` asks."""

import json
import sys

import pytest

from frontend_streamlit.translation.__main__ import main


def translated(monkeypatch: pytest.MonkeyPatch, prompt: str) -> int:
    monkeypatch.setattr(sys, "argv", ["translation", "--", prompt])
    return main()


def test_a_prompt_is_translated_as_the_page_would(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert translated(monkeypatch, "青い背景に赤いりんごとヌートリア") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["english"] == "a red apple on a blue background"
    assert (told["translator"], told["unknown_words"]) == ("offline", ["ヌートリア"])


def test_what_cannot_be_drawn_and_what_was_probably_meant_are_told_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert translated(monkeypatch, "赤い自転車とペンギソ") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["not_drawn"] == ["赤い"]
    assert (told["unknown_words"], told["suggestions"]) == (["ペンギソ"], {"ペンギソ": "ペンギン"})


@pytest.mark.parametrize(
    ("setting", "value", "prompt", "code", "told"),
    [
        ("TRANSLATOR", "google", "りんご", 1, "error: it could not be translated: Google Cloud Translation needs"),
        ("TRANSLATOR", "deepl", "りんご", 2, "error: FRONTEND_TRANSLATOR is 'deepl': "),
        ("TRANSLATOR", "offline", " ", 2, "error: the prompt is empty: say what to draw"),
        ("TRANSLATOR", "offline", "犬" * 1001, 2, "error: the prompt has 1001 characters, at most 1000"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    setting: str,
    value: str,
    prompt: str,
    code: int,
    told: str,
) -> None:
    monkeypatch.setenv(f"FRONTEND_{setting}", value)
    assert translated(monkeypatch, prompt) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(told)
    assert err.count("\n") == 1
