"""The model's card: everything in it that was measured is written from the evaluation's file, between markers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CARD = Path(__file__).parents[1] / "mini" / "CARD.md"
NAMES = {
    "one": "one object, recognised",
    "background": "background colour",
    "scene": "scene",
    "style": "style",
    "tint": "object in another colour: both right",
    "count": "two to four objects: every one right",
    "pair": "two objects: both at their places",
}

PHRASES_OF = ("scene", "style", "count", "pair")  # the forms whose values are phrases of a caption


def write_card(card: Path, report: Mapping[str, Any]) -> None:
    """Write an evaluation's report into the card.

    Raises:
        ValueError: the card lacks a section's markers.
    """
    text = card.read_text(encoding="utf-8")
    for section, body in (
        ("weights", weights_lines(report)),
        ("evaluation", evaluation_lines(report)),
        ("likeness", likeness_lines(report)),
        ("by-eye", by_eye_lines(report)),
        ("concepts", concept_lines(report)),
    ):
        text = with_section(text, section, "evaluate --card", body)
    card.write_text(text, encoding="utf-8")


def experimental(report: Mapping[str, Any]) -> list[str]:
    """The phrases that were asked for and came out right less often than their form's gate demands."""
    forms = report["scores"]["forms"]
    return [
        phrase
        for form in PHRASES_OF
        if form in forms
        for phrase, share in forms[form]["by_value"].items()
        if share["right"] < forms[form]["gate"]
    ]


def with_section(text: str, section: str, command: str, body: Sequence[str]) -> str:
    """A document with these lines between the two markers of a section.

    Raises:
        ValueError: the document lacks the markers.
    """
    begin, end = f"<!-- {section}: begin, written by {command} -->", f"<!-- {section}: end -->"
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"there is no place for the {section}: {begin} ... {end}")
    return before + "\n".join([begin, *body, end]) + after


def weights_lines(report: Mapping[str, Any]) -> list[str]:
    """How far the weights were trained."""
    weights = report["weights"]
    held_out = (
        "were left out of their training" if weights["held_out"] else "were **not** left out: these weights are older"
    )
    return [
        f"- Base model: {weights['steps']:,} steps, {weights['pictures_seen']:,} pictures, {weights['minutes']} min.",
        f"- The evaluation's held-out captions {held_out}.",
    ]


def evaluation_lines(report: Mapping[str, Any]) -> list[str]:
    """The table of forms, how it was measured, and the parts of each form."""
    classifier = report["classifier"]
    lines = [
        "| form | right | clear | both | gate | | likeness 64, 256 | pictures | captions | also measured |",
        "|" + " --- |" * 10,
    ]
    for form, scores in report["scores"]["forms"].items():
        figures = ", ".join(
            f"{name.replace('_', ' ')} {figure(name, value)}" for name, value in scores["figures"].items()
        )
        captions = f"{scores['captions']}{', held out' if scores['held_out'] else ''}"
        verdict = "passes" if scores["passes"] else "**experimental**"
        cells = (
            NAMES[form],
            percent(scores["right"]),
            "" if scores["clear"] is None else percent(scores["clear"]),
            percent(scores["good"]),
            percent(scores["gate"]),
            verdict,
            ", ".join(f"{median:.2f}" for median in scores["likeness"]),
            scores["n"],
            captions,
            figures,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "",
        f"`{report['command']}`, seed {report['seed']}. Likeness: medians.",
        (
            f"The classifier names {percent(classifier['top_1'])} of {classifier['n']:,} clean crops right "
            f"(top-5 {percent(classifier['top_5'])})."
        ),
        "",
    ]
    for form, scores in report["scores"]["forms"].items():
        parts = ", ".join(f"{value} {percent(share['right'])}" for value, share in sorted(scores["by_value"].items()))
        lines.append(f"- {NAMES[form]}: {parts}")
    return lines


def likeness_lines(report: Mapping[str, Any]) -> list[str]:
    """What the instrument of looks lets pass of renders, whole and spoiled."""
    sides = report["likeness"]
    lines = [f"| fresh renders that are clear | {' | '.join(f'{side} px' for side in sides)} |", "| --- | --- | --- |"]
    for name in next(iter(sides.values()))["clear"]:
        cells = [percent(each["clear"][name]) if name in each["clear"] else "" for each in sides.values()]
        lines += [f"| {name} | {' | '.join(cells)} |"]
    numbers = " and ".join(str(each["n"]) for each in sides.values())
    return [*lines, "", f"{numbers} renders. Blur is a Gaussian's sigma in pixels of 64, noise that of 255."]


def by_eye_lines(report: Mapping[str, Any]) -> list[str]:
    """How far a person and the instruments agree, if one has looked at these weights' pictures."""
    if "by_eye" not in report:
        return ["Nobody has judged the pictures of these weights one by one."]
    found = report["by_eye"]
    columns = list(next(iter(found["table"].values())))
    lines = [f"| by eye | {' | '.join(columns)} |", "|" + " --- |" * (1 + len(columns))]
    lines += [f"| {eye} | {' | '.join(map(str, counts.values()))} |" for eye, counts in found["table"].items()]
    ranked = ""
    if found["rank_correlation"]:
        at_64, at_256 = found["rank_correlation"]
        ranked = f" Rank correlation of likeness with the eye, good first: {at_64:.2f} at 64 px, {at_256:.2f} at 256."
    return [
        *lines,
        "",
        (
            f"Of {found['n']} pictures judged one by one, the classifier says the same as the eye (good or not) of "
            f"{percent(found['classifier'])}, likeness of {percent(found['likeness'])}, both together of "
            f"{percent(found['both'])}.{ranked}"
        ),
    ]


def concept_lines(report: Mapping[str, Any]) -> list[str]:
    """The trained concepts, and which of them came out right too seldom."""
    concepts, passing = report["scores"]["concepts"], report["scores"]["concepts_that_pass"]
    shares = {concept: percent(share["right"]) for concept, share in concepts.items() if concept not in passing}
    failing = ", ".join(f"{concept} ({share})" for concept, share in sorted(shares.items())) or "none"
    return [f"{len(passing)} pass: {', '.join(sorted(passing))}.", "", f"{len(shares)} do not: {failing}."]


def percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def figure(name: str, value: float) -> str:
    return f"{value:.1f}/255" if name.endswith("rgb_error") else percent(value)
