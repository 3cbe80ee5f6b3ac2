"""Take what a sentence negates out of it: 犬じゃなくて猫 is about a cat alone."""

from collections.abc import Iterable

from frontend_streamlit.translation.offline.lexicon import Kind, Meaning
from frontend_streamlit.translation.offline.segments import Token

_NAMES = frozenset({Kind.NOUN, Kind.SCENE, Kind.STYLE, Kind.BACKGROUND, Kind.UNKNOWN})
_ATTRIBUTES = frozenset({Kind.COLOUR, Kind.NUMBER, Kind.PREFIX, Kind.NOUN_SUFFIX})
_LINKS = ("の", "な", "と", "や", "も")


def join_negated(tokens: Iterable[Token]) -> list[Token]:
    """The same tokens, but a negation and the phrase that it negates are one unknown word.

    Its values are the English of the nouns in it.
    """
    joined: list[Token] = []
    for token in tokens:
        if _negates(token, joined):
            negated = joined[_start_of_negated(joined) :]
            del joined[len(joined) - len(negated) :]
            phrase = [*negated, token]
            surface = "".join(part.surface for part in phrase)
            nouns = tuple(Meaning(Kind.UNKNOWN, part.value) for part in negated if part.kind is Kind.NOUN)
            token = Token(surface, phrase[0].start, nouns or (Meaning(Kind.UNKNOWN),))
        joined.append(token)
    return joined


def _negates(token: Token, before: list[Token]) -> bool:
    """猫なし, 背景はなし: none of it; なしとりんご: a pear, which sounds the same."""
    if token.kind is Kind.NEGATION:
        return True
    if all(meaning.kind is not Kind.NEGATION for meaning in token.meanings):
        return False
    words = [word for word in before if word.kind is not Kind.SPACE]
    return bool(words) and (words[-1].kind in _NAMES or words[-1].surface == "は")


def _start_of_negated(tokens: list[Token]) -> int:
    """Where the phrase at the end begins: 白い犬(が), 猫が一匹(も), 猫と犬(の), but only the colour of 赤く(ない)."""
    start = len(tokens)
    while start and tokens[start - 1].kind in (Kind.PARTICLE, Kind.NUMBER, Kind.SPACE):
        start -= 1
    if start and tokens[start - 1].kind is Kind.COLOUR:
        return start - 1
    while start and (tokens[start - 1].kind in _NAMES | _ATTRIBUTES or tokens[start - 1].surface in _LINKS):
        start -= 1
    while start < len(tokens) and tokens[start].kind is Kind.PARTICLE:
        start += 1
    return start
