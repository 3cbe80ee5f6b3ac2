"""The words of the offline translator, read from the table of concepts and the grammar beside the mini model."""

import csv
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Self

from frontend_streamlit.translation.characters import fold_kana, normalise, script_of, vowel_of


class Kind(Enum):
    """What a piece of a sentence does."""

    NOUN = auto()
    COLOUR = auto()
    NUMBER = auto()
    POSITION = auto()
    SCENE = auto()
    STYLE = auto()
    BACKGROUND = auto()
    PREFIX = auto()
    NOUN_SUFFIX = auto()
    PARTICLE = auto()
    FILLER = auto()
    DECORATION = auto()
    NEGATION = auto()
    NOT_A_NAME = auto()  # a known word that only looks as if it contained a name
    BREAK = auto()
    SPACE = auto()
    UNKNOWN = auto()


DRAWN = frozenset({Kind.NOUN, Kind.COLOUR, Kind.SCENE, Kind.STYLE})
_SPELLED_ONE_WAY = frozenset({Kind.PARTICLE, Kind.PREFIX, Kind.NOUN_SUFFIX, Kind.POSITION})


@dataclass(frozen=True)
class Meaning:
    """What a word is and says; `value` is its English, or the number in digits."""

    kind: Kind
    value: str = ""


@dataclass(frozen=True)
class ArticleRule:
    """Which words take "an": by their first letter, or against it."""

    an_before: tuple[str, ...]
    a_exceptions: tuple[str, ...]
    an_exceptions: tuple[str, ...]

    def apply(self, phrase: str) -> str:
        """The phrase with its article."""
        takes_an = phrase.startswith(self.an_before) and not phrase.startswith(self.a_exceptions)
        return f"{'an' if takes_an or phrase.startswith(self.an_exceptions) else 'a'} {phrase}"


@dataclass(frozen=True)
class Sense:
    """What a word means beside some words of the same clause, or where it touches some pieces of text."""

    beside: frozenset[str]  # folded
    touching: frozenset[str]  # folded
    meaning: Meaning


@dataclass(frozen=True)
class Limits:
    """What one picture of the model can hold; each number is a most."""

    things: int
    things_beside_a_number: int
    things_beside_a_tint: int
    number_in_a_tint: int
    grounds: int
    styles: int


@dataclass(frozen=True)
class Lexicon:
    """Every word the translator knows; `words` and `folded_words` hold a word's meanings, the likeliest first."""

    words: dict[str, tuple[Meaning, ...]]
    folded_words: dict[str, tuple[Meaning, ...]]  # hiragana for katakana, where that is unambiguous
    longest: int
    beginnings: frozenset[str]  # of the folded words, of every length
    plurals: dict[str, str]
    digits: dict[str, int]  # kanji numerals
    number_words: tuple[str, ...]
    articles: ArticleRule
    limits: Limits
    largest_number: int  # of alike things that the model draws
    tintable: frozenset[str]  # English names of what it draws in any colour
    own_colours: dict[str, str]  # of the concepts that have one
    finer_colours: frozenset[str]  # Japanese names of those that it draws as the nearest one that it has
    spelling_of: dict[str, str]  # Japanese names of what can be drawn, by their folded spelling
    look_alikes: frozenset[str]  # folded words that only look as if a known one had been misspelled
    senses: dict[str, tuple[Sense, ...]]  # of the words whose context decides, folded
    drawn_by_scene: dict[str, tuple[str, ...]]  # what a scene shows besides the things asked for
    empty_scene: dict[str, str]  # the background that stands for a scene in which that is not to be
    counters: tuple[str, ...]
    modifiers: frozenset[str]
    heads: frozenset[str]
    resuming: tuple[str, ...]
    derived_by: tuple[str, ...]
    parts: frozenset[str]
    looks: frozenset[str]  # English names of faces, gestures and parts of a body, which belong to who has them
    activities: frozenset[str]  # folded names of people for what they do: サーフィン
    materials: frozenset[str]  # folded names of things that others are made of
    particles: tuple[str, ...]
    copulas: tuple[str, ...]

    @classmethod
    def read(cls, data_dir: Path) -> Self:
        """Read `concepts.tsv` and `grammar.toml` from a directory.

        Raises: OSError, or ValueError if a file is broken.
        """
        concepts = read_concepts(data_dir)
        grammar = tomllib.loads((data_dir / "grammar.toml").read_text(encoding="utf-8"))
        own = grammar["translator"]

        words: dict[str, tuple[Meaning, ...]] = {}
        for word, meaning in [*_concept_words(concepts), *_grammar_words(grammar)]:
            key = normalise(word).lower()
            if meaning not in words.get(key, ()):
                words[key] = (*words.get(key, ()), meaning)
        return cls(
            words=words,
            folded_words=_fold_words(words),
            longest=max(map(len, words)),
            beginnings=frozenset(fold_kana(word[:length]) for word in words for length in range(1, len(word))),
            plurals={row["english"]: row["plural"] for row in concepts},
            digits=_digits(grammar),
            number_words=tuple(own["number_words"]),
            articles=ArticleRule(**{name: tuple(beginnings) for name, beginnings in grammar["article"].items()}),
            limits=Limits(**grammar["limits"]),
            largest_number=max(row["number"] for row in grammar["count"]),
            tintable=frozenset(row["english"] for row in concepts if row["tint"].strip().lower() == "yes"),
            own_colours={row["english"]: row["colour"] for row in concepts if row["colour"]},
            finer_colours=_folded(word for row in grammar["colour"] for word in row.get("nearest", [])),
            counters=_longest_first(own["counters"]),
            spelling_of=_spellings(words),
            look_alikes=_folded(own["look_alikes"]),
            senses=_senses(own.get("sense") or own["reading"], words),  # its name in older exports
            drawn_by_scene={row["english"]: tuple(row.get("draws", [])) for row in grammar["scene"]},
            empty_scene={row["english"]: row["empty"] for row in grammar["scene"] if "empty" in row},
            modifiers=_folded(own["modifiers"]),
            heads=_folded(own["heads"]),
            resuming=_longest_first(own["resuming"]),
            derived_by=_longest_first(own["derived_by"]),
            parts=_folded(own["parts"]),
            looks=frozenset(own.get("looks", [])),  # older exports have none of these three
            activities=_folded(own.get("activities", [])),
            materials=_folded(own.get("materials", [])),
            particles=_longest_first(own["particles"]),
            copulas=_longest_first(own["copulas"]),
        )

    def look_up(self, surface: str) -> tuple[Meaning, ...]:
        """Meanings of a normalised piece of text; a spelling in the other kana counts if the exact one is no word."""
        key = surface.lower()
        return self.words.get(key) or self.folded_words.get(fold_kana(key), ())

    def draws(self, noun: str, colour: str) -> bool:
        """Whether the model can draw a thing in a colour; both in English."""
        return noun in self.tintable or colour == self.own_colours.get(noun)

    def is_modifier(self, surface: str) -> bool:
        """Whether the word in front of another says of which kind that is: 抹茶アイス."""
        return fold_kana(surface) in self.modifiers

    def is_head(self, surface: str) -> bool:
        """Whether a run of katakana that ends in this word is a kind of it: フンボルトペンギン."""
        return fold_kana(surface) in self.heads


def read_concepts(data_dir: Path) -> list[dict[str, str]]:
    """The rows of the table of concepts, without blank ones.

    Raises: OSError, or ValueError if it is broken.
    """
    with (data_dir / "concepts.tsv").open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        concepts = []
        try:
            for row in reader:
                if not any(isinstance(value, str) and value.strip() for value in row.values()):
                    continue
                if None in row.values():
                    raise ValueError(f"concepts.tsv, line {reader.line_num}: a column is missing")
                concepts.append(row)
        except csv.Error as error:  # such as a field of more than 131072 characters
            raise ValueError(f"concepts.tsv, line {reader.reader.line_num}: {error}") from error
    return concepts


def japanese_names(row: dict[str, str]) -> list[str]:
    """Names and spellings in one row of the table of concepts; commas of any kind part them."""
    return [name.strip() for name in re.split("[、,，]", row["japanese"]) if name.strip()]


def _concept_words(concepts: Iterable[dict[str, str]]) -> Iterator[tuple[str, Meaning]]:
    for row in concepts:
        meaning = Meaning(Kind.NOUN, row["english"])
        for word in (*japanese_names(row), row["glyph"], row["english"]):
            yield word, meaning


def _grammar_words(grammar: dict[str, Any]) -> Iterator[tuple[str, Meaning]]:
    own = grammar["translator"]
    for section, kind in (("colour", Kind.COLOUR), ("position", Kind.POSITION), ("scene", Kind.SCENE)):
        for row in grammar[section]:
            for word in (*row["japanese"], *row.get("nearest", [])):
                yield word, Meaning(kind, row["english"])
                if kind is Kind.COLOUR and word.endswith("色"):
                    yield f"{word[:-1]}いろ", Meaning(kind, row["english"])
    for row in grammar["position"]:
        for word in row["japanese"]:
            for pronoun in own["resuming"]:
                yield pronoun + word, Meaning(Kind.POSITION, row["english"])
    for section, kind in (("colour", Kind.COLOUR), ("scene", Kind.SCENE), ("style", Kind.STYLE)):
        for row in grammar[section]:
            yield row["english"], Meaning(kind, row["english"])
    for row in grammar["style"]:
        for word in row["japanese"]:
            for suffix in ("", *own["style_suffixes"]):
                yield word + suffix, Meaning(Kind.STYLE, row["english"])
    for row in (*grammar["count"], *grammar["numeral"]):
        for word in row["japanese"][1:]:
            yield word, Meaning(Kind.NUMBER, str(row["number"]))
    for section, kind in (
        ("not_names", Kind.NOT_A_NAME),
        ("negations", Kind.NEGATION),
        ("background", Kind.BACKGROUND),
        ("particles", Kind.PARTICLE),
        ("spaced_particles", Kind.PARTICLE),
        ("fillers", Kind.FILLER),
        ("prefixes", Kind.PREFIX),
        ("noun_suffixes", Kind.NOUN_SUFFIX),
        ("decorations", Kind.DECORATION),
    ):
        for word in own[section]:
            yield word, Meaning(kind)


def _fold_words(words: dict[str, tuple[Meaning, ...]]) -> dict[str, tuple[Meaning, ...]]:
    folded: dict[str, set[tuple[Meaning, ...]]] = {}
    for word, meanings in words.items():
        if meanings[0].kind not in _SPELLED_ONE_WAY:
            folded.setdefault(fold_kana(word), set()).add(meanings)
            is_clear = len(word) > 2 and not word.startswith("ノ")  # 海のおと holds no ノート
            if "ー" in word and is_clear and meanings[0].kind is Kind.NOUN:
                folded.setdefault(_spell_out_vowels(fold_kana(word)), set()).add(meanings)
    return {word: next(iter(found)) for word, found in folded.items() if len(found) == 1}


def _spellings(words: dict[str, tuple[Meaning, ...]]) -> dict[str, str]:
    return {
        fold_kana(word): word
        for word, meanings in words.items()
        if meanings[0].kind in DRAWN and not any(script_of(char) in ("latin", "symbol") for char in word)
    }


def _senses(rows: Iterable[dict[str, Any]], words: dict[str, tuple[Meaning, ...]]) -> dict[str, tuple[Sense, ...]]:
    senses: dict[str, tuple[Sense, ...]] = {}
    unknown = (Meaning(Kind.UNKNOWN),)
    for row in rows:
        meaning = words.get(row.get("means", ""), unknown)[0]  # a table of one's own may lack what it means
        beside, touching = (_folded(row.get(name, [])) for name in ("beside", "touching"))
        for word in row["words"]:
            key = fold_kana(normalise(word))
            senses[key] = (*senses.get(key, ()), Sense(beside, touching, meaning))
    return senses


def _folded(words: Iterable[str]) -> frozenset[str]:
    return frozenset(fold_kana(normalise(word)) for word in words)


def _spell_out_vowels(word: str) -> str:
    """As children spell it: けえき."""
    spelled = ""
    for char in word:
        spelled += (vowel_of(spelled[-1:]) if spelled and char == "ー" else char) or "ー"
    return spelled


def _digits(grammar: dict[str, Any]) -> dict[str, int]:
    """The first Japanese spelling of every number is its kanji numeral, which needs a counter to be a number."""
    return {row["japanese"][0]: row["number"] for row in (*grammar["count"], *grammar["numeral"])}


def _longest_first(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(map(normalise, words), key=len, reverse=True))
