"""`python -m frontend_streamlit.translation`, which `make image` asks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from frontend_streamlit.translation.__main__ import main

ROOT = Path(__file__).parents[3]


def translated(monkeypatch: pytest.MonkeyPatch, prompt: str) -> int:
    monkeypatch.setattr(sys, "argv", ["translation", "--", prompt])
    return main()


def test_a_prompt_is_translated_as_the_page_would(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert translated(monkeypatch, "青い背景に赤いりんごとヌートリア") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["english"] == "a red apple on a blue background"
    assert (answer["translator"], answer["unknown_words"]) == ("offline", ["ヌートリア"])


def test_what_cannot_be_drawn_and_what_was_probably_meant_are_told_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert translated(monkeypatch, "赤い自転車とペンギソ") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["not_drawn"] == ["赤い"]
    assert (answer["unknown_words"], answer["suggestions"]) == (["ペンギソ"], {"ペンギソ": "ペンギン"})


@pytest.mark.parametrize(
    ("setting", "value", "prompt", "code", "message"),
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
    message: str,
) -> None:
    monkeypatch.setenv(f"FRONTEND_{setting}", value)
    assert translated(monkeypatch, prompt) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run_with(prompt: bytes, locale: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    command = [os.fsencode(sys.executable), b"-m", b"frontend_streamlit.translation", b"--", prompt]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | locale,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "utf-16"},
        {"LC_ALL": "C"},
        C_LOCALE,
        C_LOCALE | {"PYTHONIOENCODING": "ascii:strict"},
    ],
)
def test_the_prompt_is_utf_8_and_the_answer_ascii_whatever_the_locale(locale: dict[str, str]) -> None:
    done = run_with("赤いりんごとヌートリア".encode(), locale)
    answer = json.loads(done.stdout.decode("ascii"))
    assert (answer["source"], answer["english"]) == ("赤いりんごとヌートリア", "a red apple")
    assert answer["unknown_words"] == ["ヌートリア"]


@pytest.mark.parametrize("locale", [{"PYTHONUTF8": "1"}, C_LOCALE])
@pytest.mark.parametrize("prompt", [b"\xff\xfe apple", "赤いりんご".encode("cp932")])
def test_a_prompt_that_is_no_text_is_told_in_one_line(prompt: bytes, locale: dict[str, str]) -> None:
    done = run_with(prompt, {"LC_ALL": "C.UTF-8"} | locale)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"error: the prompt is no text: it must be in UTF-8, or as the locale says\n"


def test_nobody_listening_stops_nothing() -> None:
    command = (
        f'{{ "{sys.executable}" -m frontend_streamlit.translation -- りんご; echo $? >&3; }} 3>&2 2>/dev/null | true'
    )
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert done.stderr == b"0\n"
