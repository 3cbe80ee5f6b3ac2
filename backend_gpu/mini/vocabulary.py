"""The one table behind the mini model: its concepts and the grammar around them.

`concepts.tsv` and `grammar.toml` are read here for training and by the page's offline translator, so that a caption in
training and a translated prompt are the same English.
"""

import csv
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from backend_gpu.errors import ConceptTableError

CONCEPTS, GRAMMAR = (Path(__file__).with_name(name) for name in ("concepts.tsv", "grammar.toml"))
WORD = re.compile(r"[a-z]+(?:-[a-z]+)*|,")
PHRASE = re.compile(r"[a-z]+(?:[- ][a-z]+)*")
COLUMNS = {"glyph", "english", "plural", "colour", "tint", "japanese"}


@dataclass(frozen=True)
class Concept:
    """A thing that can be drawn: its emoji or picture and its English name."""

    glyph: str  # an emoji, or the path of a picture, cut out (RGBA) or not
    english: str
    plural: str
    colour: str  # the colour of the untouched glyph, "" if it has no single one
    is_tintable: bool  # may be drawn in another colour
    font: str = ""  # the file of the colour font that has the emoji; Noto's if empty


@dataclass(frozen=True)
class Vocabulary:
    """Everything that a caption can say."""

    concepts: tuple[Concept, ...]
    colours: dict[str, tuple[int, int, int]]  # English name to RGB, 0-255
    counts: dict[str, int]
    positions: tuple[str, ...]
    scenes: tuple[str, ...]
    styles: tuple[str, ...]

    def words(self) -> list[str]:
        """Every word of every caption, in a stable order."""
        phrases = [
            "a an and on background ,",
            *(phrase for concept in self.concepts for phrase in (concept.english, concept.plural)),
            *self.colours,
            *self.counts,
            *self.positions,
            *self.scenes,
            *self.styles,
        ]
        return list(dict.fromkeys(word for phrase in phrases for word in WORD.findall(phrase)))


def load_vocabulary(concepts: Path = CONCEPTS) -> Vocabulary:
    """Read a concept table (UTF-8, with or without the mark that Excel puts before it) and the grammar.

    Raises:
        ConceptTableError: the table is missing or broken.
    """
    forms = _grammar()
    colours = {entry["english"]: tuple(entry["rgb"]) for entry in forms["colour"]}
    table = tuple(_concept(row, colours, place, concepts.parent) for place, row in _rows(concepts))
    names = [concept.english for concept in table]
    if len(set(names)) < len(names):
        raise ConceptTableError(f"{concepts} has a concept twice: {max(names, key=names.count)}")
    return Vocabulary(
        concepts=table,
        colours=colours,
        counts={entry["english"]: entry["number"] for entry in forms["count"]},
        positions=tuple(entry["english"] for entry in forms["position"]),
        scenes=tuple(entry["english"] for entry in forms["scene"]),
        styles=tuple(entry["english"] for entry in forms["style"]),
    )


def drawable_things(concepts: Path = CONCEPTS) -> dict[str, list[tuple[str, str]]]:
    """What can be drawn by kind (concept, colour, scene, style), in the order of the tables.

    Returns: pairs of a thing's first Japanese name, or its English one if it has none, and its English name.

    Raises:
        ConceptTableError: the table is missing or broken.
    """
    things = {"concept": [(_first_japanese_name(row) or row["english"], row["english"]) for _, row in _rows(concepts)]}
    forms = _grammar()
    for kind in ("colour", "scene", "style"):
        things[kind] = [(entry["japanese"][0], entry["english"]) for entry in forms[kind]]
    return things


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase, by the grammar's rule."""
    vowels, a_exceptions, an_exceptions = _article_rule()
    takes_an = phrase.startswith(vowels) and not phrase.startswith(a_exceptions)
    return f"{'an' if takes_an or phrase.startswith(an_exceptions) else 'a'} {phrase}"


@lru_cache
def _grammar() -> dict[str, Any]:
    """The grammar's file; read once, as a start needs it several times and reading takes 20 ms."""
    return tomllib.loads(GRAMMAR.read_text(encoding="utf-8"))


@lru_cache
def _article_rule() -> tuple[tuple[str, ...], ...]:
    rule = _grammar()["article"]
    return tuple(rule["an_before"]), tuple(rule["a_exceptions"]), tuple(rule["an_exceptions"])


def _rows(concepts: Path) -> list[tuple[str, dict[str, str]]]:
    """The rows of a table, blank ones left out, each with its place for messages.

    Raises:
        ConceptTableError: the file is missing, or is no such table.
    """
    try:
        with concepts.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            rows = [(f"{concepts}, line {reader.line_num}", row) for row in reader if not _is_blank(row)]
    except OSError as error:
        raise ConceptTableError(f"can't read the concepts in {concepts}: {error}") from error
    except UnicodeDecodeError as error:
        raise ConceptTableError(
            f"{concepts} is not in UTF-8: save it so, with tabs between (Excel's Unicode text is UTF-16, its other "
            "text formats have an encoding of the country)"
        ) from error
    except csv.Error as error:  # such as a field of more than 131072 characters
        raise ConceptTableError(f"{concepts}, line {reader.reader.line_num}: {error}") from error
    if not rows or not rows[0][1].keys() >= COLUMNS:
        raise ConceptTableError(f"{concepts} needs a first line with {', '.join(sorted(COLUMNS))}, and tabs between")
    for place, row in rows:
        if None in row.values():
            raise ConceptTableError(f"{place}: a column is missing")
    return rows


def _is_blank(row: Mapping[str, object]) -> bool:
    """Whether a row has nothing but tabs and spaces."""
    return not any(isinstance(value, str) and value.strip() for value in row.values())


def _first_japanese_name(row: Mapping[str, str]) -> str:
    """The first of a row's Japanese names, which commas of any kind part; empty if it has none."""
    names = map(str.strip, re.split("[、,，]", row["japanese"]))
    return next(filter(None, names), "")


def _concept(row: dict[str, str], colours: Mapping[str, object], place: str, folder: Path) -> Concept:
    """One row of the table, checked."""
    for name in ("english", "plural"):
        if not PHRASE.fullmatch(row[name]):
            raise ConceptTableError(f"{place}: {name} is {row[name]!r}, must be lower-case English words")
    if row["colour"] and row["colour"] not in colours:
        raise ConceptTableError(f"{place}: the colour is {row['colour']!r}, must be empty or of {', '.join(colours)}")
    tint = row["tint"].strip().lower()
    if tint not in ("yes", "no", ""):
        raise ConceptTableError(f"{place}: tint is {row['tint']!r}, must be yes, no or empty")
    glyph = row["glyph"]
    if Path(glyph).suffix:
        glyph = str(folder / glyph)
    return Concept(glyph, row["english"], row["plural"], row["colour"], tint == "yes")
