"""The one table behind the mini model: its concepts and the grammar around them.

`concepts.tsv` and `grammar.toml` are read here for training and by the page's offline translator, so that a caption in
training and a translated prompt are the same English.
"""

import csv
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
WORD = re.compile(r"[a-z]+(?:-[a-z]+)*|,")


@dataclass(frozen=True)
class Concept:
    """A thing that can be drawn: its emoji glyph and its English name."""

    glyph: str
    english: str
    plural: str
    colour: str  # the colour of the untouched glyph, "" if it has no single one
    is_tintable: bool  # may be drawn in another colour


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


def load_vocabulary(concepts: Path = FOLDER / "concepts.tsv", grammar: Path = FOLDER / "grammar.toml") -> Vocabulary:
    """Read the concept table and the grammar."""
    with concepts.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        table = tuple(
            Concept(row["glyph"], row["english"], row["plural"], row["colour"], row["tint"] == "yes") for row in rows
        )
    forms = tomllib.loads(grammar.read_text(encoding="utf-8"))
    return Vocabulary(
        concepts=table,
        colours={entry["english"]: tuple(entry["rgb"]) for entry in forms["colour"]},
        counts={entry["english"]: entry["number"] for entry in forms["count"]},
        positions=tuple(entry["english"] for entry in forms["position"]),
        scenes=tuple(entry["english"] for entry in forms["scene"]),
        styles=tuple(entry["english"] for entry in forms["style"]),
    )
