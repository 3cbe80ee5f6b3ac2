"""Names that only say how another thing looks: 笑顔の女の子 is a girl, 石の橋 a bridge."""

from collections.abc import Iterable

from frontend_streamlit.translation.characters import fold_kana
from frontend_streamlit.translation.offline.lexicon import Kind, Lexicon
from frontend_streamlit.translation.offline.segments import Token

_ATTRIBUTES = frozenset({Kind.COLOUR, Kind.NUMBER, Kind.PREFIX})
_NOT_DRAWN = frozenset({Kind.UNKNOWN, Kind.NOT_A_NAME})
_LINKS = ("の", "な", "で", "をした", "をしている", "をしてる")
_MADE = ("でき", "出来", "作", "つく", "造")


def report_attributes(tokens: Iterable[Token], lexicon: Lexicon) -> list[Token]:
    """The same tokens, but a look, an activity or a material that belongs to another thing is an unknown word."""
    row = list(tokens)
    return [
        token.meant_as(Kind.UNKNOWN) if _Place(row, place, lexicon).belongs_to_another() else token
        for place, token in enumerate(row)
    ]


class _Place:
    """A word and what stands around it in its clause."""

    def __init__(self, tokens: list[Token], place: int, lexicon: Lexicon) -> None:
        self.tokens, self.place, self.lexicon = tokens, place, lexicon

    def belongs_to_another(self) -> bool:
        token = self.tokens[self.place]
        if token.kind is not Kind.NOUN:
            return False
        if fold_kana(token.surface) in self.lexicon.materials:
            return self.is_material()
        if self.is_part(token):
            return self.is_owned() or self.describes_what_follows() or self.is_done_by_what_is_before()
        if fold_kana(token.surface) in self.lexicon.activities:
            return self.describes_what_follows() or self.is_done_by_what_is_before()
        return False

    def at(self, place: int) -> Token | None:
        return self.tokens[place] if 0 <= place < len(self.tokens) else None

    def kind(self, place: int) -> Kind | None:
        token = self.at(place)
        return token.kind if token else None

    def is_particle(self, place: int, *surfaces: str) -> bool:
        return self.kind(place) is Kind.PARTICLE and self.tokens[place].surface in surfaces

    def is_part(self, token: Token) -> bool:
        return token.value in self.lexicon.looks

    def is_owner(self, place: int) -> bool:
        return self.kind(place) is Kind.NOUN and not self.is_part(self.tokens[place])

    def is_material(self) -> bool:
        """石の橋, 氷の白い城, 木でできた家; but 石の上の亀, 石と橋."""
        after = self.place + 1
        made = self.at(after + 1)
        if self.is_particle(after, "で"):
            return made is not None and made.surface.startswith(_MADE)
        if not self.is_particle(after, "の"):
            return False
        for place in range(after + 1, len(self.tokens)):
            if self.kind(place) is Kind.NOUN:
                return True
            is_linked = place > after + 1 and self.is_particle(place, "の")
            if not is_linked and self.kind(place) not in _ATTRIBUTES and not self.is_adjective(place):
                return False
        return False

    def is_adjective(self, place: int) -> bool:
        return self.kind(place) in _NOT_DRAWN and self.tokens[place].surface.endswith(("い", "な"))

    def is_owned(self) -> bool:
        """赤ちゃんの笑顔, 天使の白い翼."""
        before = self.place - 1
        while self.kind(before) is Kind.COLOUR:
            before -= 1
        if not self.is_particle(before, "の"):
            return False
        before -= 1
        while self.kind(before) in (Kind.NOUN_SUFFIX, Kind.NOT_A_NAME):  # 子供たち
            before -= 1
        return self.is_owner(before)

    def describes_what_follows(self) -> bool:
        """笑顔の女の子, 笑顔で走る犬, 翼を広げる鷲, 笑顔がかわいい猫, サーフィンする犬; but 笑顔と犬, 笑顔の絵と犬."""
        after = self.place + 1
        if self.is_particle(after, "を", "が"):
            after += 1
            if self.kind(after) not in (*_NOT_DRAWN, Kind.FILLER):
                return False
        elif self.is_particle(after, *_LINKS) or self.becomes(after):
            after += 1
        elif self.kind(after) not in (*_NOT_DRAWN, Kind.FILLER):  # 笑顔いっぱいの犬
            return False
        for place in range(after, len(self.tokens)):
            kind = self.kind(place)
            if kind is Kind.NOUN:
                return self.is_owner(place)
            if kind is Kind.FILLER and self.kind(place + 1) in (Kind.PARTICLE, Kind.SPACE):
                return False
            if kind is Kind.PARTICLE and not self.is_particle(place, "の", "な", "を", "に", "で"):
                return False
            if kind not in _ATTRIBUTES | _NOT_DRAWN | {Kind.FILLER, Kind.PARTICLE}:
                return False
        return False

    def becomes(self, place: int) -> bool:
        """笑顔になる."""
        following = self.at(place + 1)
        return self.is_particle(place, "に") and following is not None and following.surface.startswith("な")

    def is_done_by_what_is_before(self) -> bool:
        """猫が笑顔で走る, 犬はサーフィンをしている."""
        after = self.place + 1
        is_predicate = self.kind(after) in (None, Kind.BREAK, Kind.FILLER)
        if not is_predicate and not self.is_particle(after, "を", *_LINKS[2:]) and not self.becomes(after):
            return False
        for place in range(self.place - 1, 0, -1):
            if self.kind(place) in (Kind.BREAK, Kind.POSITION):
                return False
            if self.is_particle(place, "が", "は", "も") and self.is_owner(place - 1):
                return True
        return False
