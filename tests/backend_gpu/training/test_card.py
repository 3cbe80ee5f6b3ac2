import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from backend_gpu.training.card import CARD, NAMES, experimental, write_card
from backend_gpu.training.evaluate import GATES

SECTIONS = ("weights", "evaluation", "likeness", "by-eye", "concepts")


def report(held_out: bool = True) -> dict[str, Any]:
    """What `evaluate` writes, about two forms and three concepts."""
    passing = {
        "right": 0.985,
        "clear": 0.96,
        "good": 0.955,
        "likeness": [0.2512, 0.309],
        "n": 600,
        "gate": 0.9,
        "passes": True,
        "held_out": False,
        "captions": 150,
        "figures": {"top_5": 0.99},
        "by_value": {
            "plain": {"right": 0.98, "clear": 0.2, "good": 0.1, "n": 200},
            "in a scene": {"right": 0.94, "clear": 0.2, "good": 0.1, "n": 200},
        },
    }
    failing: dict[str, Any] = {
        "right": 0.655,
        "clear": None,
        "good": 0.405,
        "likeness": [],
        "n": 200,
        "gate": 0.7,
        "passes": False,
        "held_out": True,
        "captions": 96,
        "figures": {"each_object": 0.6, "number": 0.5},
        "by_value": {
            "two": {"right": 0.5, "clear": 0.2, "good": 0.1, "n": 100},
            "four": {"right": 0.31, "clear": 0.2, "good": 0.1, "n": 100},
        },
    }
    background = passing | {
        "figures": {"mean_abs_rgb_error": 4.26},
        "by_value": {"red": {"right": 0.955, "clear": 0.2, "good": 0.1, "n": 600}},
    }
    return {
        "command": "python -m backend_gpu.training evaluate --per-form 200",
        "seed": 7,
        "weights": {"steps": 12345, "pictures_seen": 790080, "minutes": 108, "held_out": held_out},
        "classifier": {"top_1": 0.987, "top_5": 1.0, "n": 2000},
        "likeness": {
            "64": {"n": 200, "clear": {"untouched": 0.99, "blur 1.5": 0.015}},
            "256": {"n": 60, "clear": {"untouched": 0.975}},
        },
        "scores": {
            "forms": {"one": passing, "background": background, "count": failing},
            "concepts": {
                "dog": {"right": 1.0, "clear": 0.2, "good": 0.1, "n": 6},
                "ant": {"right": 0.8333, "clear": 0.2, "good": 0.1, "n": 6},
                "cat": {"right": 0.3333, "clear": 0.2, "good": 0.1, "n": 6},
            },
            "forms_that_pass": ["one", "background"],
            "concepts_that_pass": ["dog", "ant"],
        },
    }


def markers(section: str) -> tuple[str, str]:
    return f"<!-- {section}: begin, written by evaluate --card -->", f"<!-- {section}: end -->"


def section_of(text: str, section: str) -> str:
    begin, end = markers(section)
    return text.partition(begin)[2].partition(end)[0].strip()


def without_sections(text: str) -> str:
    for begin, end in map(markers, SECTIONS):
        text = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", "", text, flags=re.DOTALL)
    return text


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A copy of the project's card."""
    return Path(shutil.copy(CARD, tmp_path / "CARD.md"))


def test_figures_go_between_the_markers_and_all_other_text_stays(card: Path) -> None:
    before = card.read_text(encoding="utf-8")
    write_card(card, report())
    after = card.read_text(encoding="utf-8")
    assert without_sections(after) == without_sections(before)
    assert "12,345 steps, 790,080 pictures, 108 min." in section_of(after, "weights")
    assert (
        "| one object, recognised | 98% | 96% | 96% | 90% | passes | 0.25, 0.31 | 600 | 150 | top 5 99% |"
        in section_of(after, "evaluation")
    )
    assert "`python -m backend_gpu.training evaluate --per-form 200`, seed 7" in section_of(after, "evaluation")
    assert "names 99% of 2,000 clean crops right (top-5 100%)" in section_of(after, "evaluation")


def test_a_form_below_its_gate_is_called_experimental(card: Path) -> None:
    write_card(card, report())
    row = next(line for line in card.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {NAMES['count']}"))
    assert "| 66% |  | 40% | 70% | **experimental** |  | 200 | 96, held out | each object 60%, number 50% |" in row


def test_colour_errors_are_told_in_steps_of_eight_bits(card: Path) -> None:
    write_card(card, report())
    assert "mean abs rgb error 4.3/255" in section_of(card.read_text(encoding="utf-8"), "evaluation")


def test_what_likeness_lets_pass_is_told(card: Path) -> None:
    write_card(card, report())
    text = section_of(card.read_text(encoding="utf-8"), "likeness")
    assert "| untouched | 99% | 98% |\n| blur 1.5 | 2% |  |\n" in text
    assert "200 and 60 renders" in text


def test_what_the_eye_says_is_told_where_it_has_looked(card: Path) -> None:
    write_card(card, report())
    assert "Nobody has judged" in section_of(card.read_text(encoding="utf-8"), "by-eye")
    counts = {"right, clear": 50, "not right, not clear": 3}
    by_eye = {"n": 53, "table": {"good": counts}, "classifier": 0.9, "likeness": 0.8, "both": 0.85}
    write_card(card, report() | {"by_eye": by_eye | {"rank_correlation": [0.512, 0.609]}})
    text = section_of(card.read_text(encoding="utf-8"), "by-eye")
    assert "| good | 50 | 3 |" in text
    assert "Of 53 pictures" in text
    assert "0.51 at 64 px, 0.61 at 256" in text


def test_the_parts_of_a_form_are_told_in_the_order_of_their_names(card: Path) -> None:
    write_card(card, report())
    assert f"- {NAMES['count']}: four 31%, two 50%" in section_of(card.read_text(encoding="utf-8"), "evaluation")


def test_concepts_are_listed_by_whether_they_pass(card: Path) -> None:
    write_card(card, report())
    text = section_of(card.read_text(encoding="utf-8"), "concepts")
    assert text == "2 pass: ant, dog.\n\n1 do not: cat (33%)."


@pytest.mark.parametrize(("held_out", "said"), [(True, "were left out"), (False, "were **not** left out")])
def test_the_card_says_whether_training_left_the_captions_out(held_out: bool, said: str, card: Path) -> None:
    write_card(card, report(held_out))
    assert f"held-out captions {said}" in section_of(card.read_text(encoding="utf-8"), "weights")


def test_new_figures_replace_the_old_ones(card: Path) -> None:
    write_card(card, report(held_out=False))
    write_card(card, report())
    once = card.read_text(encoding="utf-8")
    write_card(card, report())
    assert card.read_text(encoding="utf-8") == once
    assert "**not** left out" not in once


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("which", [0, 1], ids=["begin", "end"])
def test_a_card_without_a_marker_is_refused_and_left_as_it_is(section: str, which: int, card: Path) -> None:
    text = card.read_text(encoding="utf-8").replace(markers(section)[which], "")
    card.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"no place for the {section}"):
        write_card(card, report())
    assert card.read_text(encoding="utf-8") == text


def test_the_card_has_a_name_for_every_form() -> None:
    assert set(NAMES) == set(GATES)


def test_phrases_below_their_gate_are_experimental() -> None:
    assert experimental(report()) == ["two", "four"]  # of a count that fails; one that passes has none
