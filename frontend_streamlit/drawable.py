"""What the mini model can draw, as a list to choose from: read from the two files that its training starts from."""

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from frontend_streamlit.translation.offline.lexicon import japanese_names, read_concepts


@dataclass(frozen=True)
class Word:
    """One thing, colour, scene or style in both languages."""

    japanese: str
    english: str


@lru_cache
def drawable(data_dir: Path) -> dict[str, tuple[Word, ...]]:
    """The words by kind: concept, colour, scene, style."""
    concepts = tuple(
        Word((japanese_names(row) or [row["english"]])[0], row["english"]) for row in read_concepts(data_dir)
    )
    grammar = tomllib.loads((data_dir / "grammar.toml").read_text(encoding="utf-8"))
    others = {
        kind: tuple(Word(row["japanese"][0], row["english"]) for row in grammar[kind])
        for kind in ("colour", "scene", "style")
    }
    return {"concept": concepts} | others
