"""Choose between the readings of a word: オレンジ the colour or the fruit, ❤ a thing to draw or an ornament."""

from collections.abc import Iterable, Iterator
from itertools import takewhile

from frontend_streamlit.translation.characters import fold_kana, script_of
from frontend_streamlit.translation.offline.lexicon import Kind, Lexicon
from frontend_streamlit.translation.offline.segments import Token

_WITHOUT_PICTURE = frozenset({Kind.UNKNOWN, Kind.NOT_A_NAME, Kind.FILLER, Kind.SPACE})
_TYPED_SIGNS = frozenset("★☆♡♥")


def settle_readings(tokens: list[Token], lexicon: Lexicon) -> Iterator[Token]:
    """The same tokens, those with several readings reduced to the one that their neighbours suggest."""
    tokens = [_by_evidence(place, tokens, lexicon) for place in range(len(tokens))]
    named = {token.value for token in tokens if token.kind is Kind.NOUN and not is_symbol(token)}
    for place, token in enumerate(tokens):
        kinds = {meaning.kind for meaning in token.meanings}
        if Kind.NOUN not in kinds:
            yield token
        elif _modifies(tokens[place : place + 2], Kind.COLOUR in kinds, lexicon):
            yield token.meant_as(Kind.UNKNOWN)
        elif Kind.COLOUR in kinds and (_is_attribute(tokens[place + 1 : place + 4]) or _is_ground(tokens[:place])):
            yield token.meant_as(Kind.COLOUR)
        elif Kind.FILLER in kinds and place and tokens[place - 1].kind is Kind.NOUN:
            yield token.meant_as(Kind.FILLER)  # 猫あり; ありと猫: an ant
        elif is_symbol(token) and _only_decorates(tokens, place, named):
            yield token.meant_as(Kind.DECORATION)
        else:
            yield token.meant_as(Kind.NOUN)


def _by_evidence(place: int, tokens: list[Token], lexicon: Lexicon) -> Token:
    """バタフライ beside 水泳, or with で泳ぐ behind it, is no butterfly."""
    token = tokens[place]
    readings = lexicon.readings.get(fold_kana(token.surface), ())
    if readings:
        before = _words_up_to_break(reversed(tokens[:place]))[::-1]
        after = _words_up_to_break(tokens[place + 1 :])
        words = {fold_kana(other.surface) for other in (*before, *after)}
        for reading in readings:
            if words & reading.beside or any(_touches(piece, before, after) for piece in reading.touching):
                return Token(token.surface, token.start, (reading.meaning,))
    return token


def _words_up_to_break(tokens: Iterable[Token]) -> list[Token]:
    clause = takewhile(lambda token: token.kind is not Kind.BREAK, tokens)
    return [token for token in clause if token.kind is not Kind.SPACE]


def _touches(piece: str, before: list[Token], after: list[Token]) -> bool:
    """Whether one or two words beside a place make up the piece; an unknown one may go on behind it."""
    if piece == fold_kana("".join(word.surface for word in before[-2:])):
        return True
    for words in (before[-1:], after[:1], after[:2]):
        text = fold_kana("".join(word.surface for word in words))
        if text == piece or (words and words[-1].kind is Kind.UNKNOWN and text.startswith(piece)):
            return True
    return False


def _is_attribute(following: list[Token]) -> bool:
    """オレンジの風船, オレンジ背景: a colour; オレンジとりんご, オレンジの絵: the fruit."""
    kinds = [token.kind for token in following if token.kind is not Kind.SPACE]
    if following and following[0].surface in ("の", "な"):
        return kinds[1:2] in ([Kind.NOUN], [Kind.BACKGROUND], [Kind.COLOUR], [Kind.PREFIX], [Kind.SCENE])
    if following and following[0].surface == "を":
        return kinds[1:2] == [Kind.BACKGROUND]
    return kinds[:1] in ([Kind.NOUN], [Kind.BACKGROUND], [Kind.PREFIX])


def _modifies(tokens: list[Token], is_colour: bool, lexicon: Lexicon) -> bool:
    """抹茶アイス: an ice cream, and no cup of tea; オレンジ風船 is of that colour, オレンジケーキ is not."""
    if len(tokens) < 2 or tokens[1].kind is not Kind.NOUN or is_symbol(tokens[1]):
        return False
    return lexicon.is_modifier(tokens[0].surface) and (not is_colour or lexicon.is_head(tokens[1].surface))


def _is_ground(before: list[Token]) -> bool:
    """背景はオレンジ, 背景:オレンジ."""
    kinds = [token.kind for token in before[-4:] if token.kind not in (Kind.SPACE, Kind.PARTICLE)]
    if kinds[-1:] == [Kind.BREAK]:
        return before[-1].surface == ":" and kinds[-2:-1] == [Kind.BACKGROUND]
    return kinds[-1:] == [Kind.BACKGROUND] and before[-1].surface not in ("に", "で")


def _stands_before_its_word(tokens: list[Token], place: int) -> bool:
    """🌈虹."""
    others = (other for other in tokens[place + 1 :] if other.surface != tokens[place].surface)
    after = next((other for other in others if other.kind is not Kind.SPACE), None)
    return after is not None and not is_symbol(after) and after.kind is Kind.NOUN and after.value == tokens[place].value


def _closes_what_it_opened(tokens: list[Token], place: int) -> bool:
    """🎄メリークリスマス🎄: the second one."""
    between = list(takewhile(lambda other: other.kind in _WITHOUT_PICTURE, reversed(tokens[:place])))
    start = place - len(between) - 1
    is_parted = any(other.kind is not Kind.SPACE for other in between)
    return is_parted and start >= 0 and tokens[start].surface == tokens[place].surface


def _adorns_words(tokens: list[Token], place: int, before: Token | None) -> bool:
    """★猫★, 猫を♡; but ★が3つ, 夜空に★."""
    after = next((other for other in tokens[place + 1 :] if other.kind is not Kind.SPACE), None)
    if before is None:
        others = (Kind.PARTICLE, Kind.NUMBER, Kind.BREAK)
        return after is not None and not is_symbol(after) and after.kind not in others
    return after is None and before.surface in ("を", "で")


def is_symbol(token: Token) -> bool:
    """Whether the token is an emoji or another sign."""
    return all(script_of(char) == "symbol" for char in token.surface)


def _only_decorates(tokens: list[Token], place: int, named: set[str]) -> bool:
    """りんご🍎, 猫3匹🐱 and 描いて❤: a symbol that follows words without a particle, and names nothing new."""
    token = tokens[place]
    if _stands_before_its_word(tokens, place) or _closes_what_it_opened(tokens, place):
        return True
    while place and tokens[place - 1].surface == token.surface:  # ⭐⭐⭐ are all alike
        place -= 1
    before = next(
        (other for other in reversed(tokens[max(place - 3, 0) : place]) if other.kind is not Kind.SPACE), None
    )
    if token.surface in _TYPED_SIGNS and _adorns_words(tokens, place, before):
        return True
    is_linked = bool(tokens[place + 1 : place + 2]) and tokens[place + 1].kind is Kind.PARTICLE
    if before is None or before.kind in (Kind.PARTICLE, Kind.COLOUR):
        return False
    if token.value in named and (before.kind is Kind.NUMBER or before.value == token.value):
        return True
    if is_linked or before.kind is Kind.NUMBER:
        return False
    return token.value in named or any(meaning.kind is Kind.DECORATION for meaning in token.meanings)
