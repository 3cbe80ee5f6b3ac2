"""Mend how words are typed where only one reading is left: dashes for long vowels, vowels drawn out, gaps in words."""

import re

from frontend_streamlit.translation.characters import fold_kana, script_of, vowel_of
from frontend_streamlit.translation.offline.lexicon import DRAWN, Kind, Lexicon

_WAVES = "~〜∼〰"
_STROKES = r"\-\u02d7\u1173\u2010-\u2015\u2043\u2212\u23af\u2500\u2501\u2796\u2e3a\u2e3b\u30a0\u3161\u31d0"
_MARKS = re.compile(rf"(?<=[ぁ-ゖァ-ヺ])(?:[ー{_WAVES}{_STROKES}]+|一)")
_WORDS = DRAWN | {Kind.BACKGROUND, Kind.FILLER, Kind.NOT_A_NAME}
_SHORTEST_SURE_NAME = 3
_GAP = re.compile(r"(?<![ァ-ヺー])([ァ-ヺー]+) ([ァ-ヺー]+)(?![ァ-ヺー])|(?<![ぁ-ゖー])([ぁ-ゖー]+) ([ぁ-ゖー]+)")


def close_gaps(text: str, lexicon: Lexicon) -> str:
    """The normalised text without a space that parts a name in two pieces, of which neither is a word: パ ンダ."""

    def joined(match: re.Match[str]) -> str:
        first, last = filter(None, match.groups())
        ends = range(1, len(last) + 1) if match[3] else [len(last)]  # り んごの絵
        is_gap = not lexicon.look_up(first) and any(
            not lexicon.look_up(last[:end])
            and any(meaning.kind in DRAWN for meaning in lexicon.look_up(first + last[:end]))
            for end in ends
        )
        return first + last if is_gap else match[0]

    return _GAP.sub(joined, text)


def mend_long_vowels(text: str, lexicon: Lexicon) -> str:
    """The normalised text with ー wherever a dash after kana stands for it, and no longer than one ー."""
    marks = [(match.start(), match[0]) for match in _MARKS.finditer(text)]
    if not marks:
        return text
    return _Mender(text, lexicon).mend(marks)


class _Mender:
    def __init__(self, text: str, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self.text = _MARKS.sub("ー", text)

    def mend(self, marks: list[tuple[int, str]]) -> str:
        pieces: list[str] = []
        end = surplus = 0
        for start, mark in marks:
            place = start - surplus
            pieces += [self.text[end:place], self.replacement(place, mark)]
            end, surplus = place + 1, surplus + len(mark) - 1
        return "".join([*pieces, self.text[end:]])

    def replacement(self, place: int, mark: str) -> str:
        """What to write for the mark that stood where the text now has ー."""
        separator = self.separator(place, mark)
        if separator:
            self.text = f"{self.text[:place]}{separator[-1]}{self.text[place + 1 :]}"  # what follows begins a run
            return separator
        is_spelled = self.is_word_around(place, "ー")
        if mark == "一":
            is_long_vowel = is_spelled and not self.is_counted(place) and not self.begins_kanji_word(place)
            return "ー" if self.is_in_katakana(place) or is_long_vowel else mark
        if is_spelled:
            return "ー"
        is_long_vowel = set(mark) == {"ー"}
        before, after = (script_of(self.text[i : i + 1] or " ") for i in (place - 1, place + 1))
        if before == "hiragana" or not is_long_vowel:
            letters: list[str] = ["", *_vowels_after(self.text[place - 1])]
            for letter in letters[:1] if self.ends_word(place) else letters:  # かいて〜 is no かいてい
                if self.is_word_around(place, letter):
                    return letter
        if is_long_vowel:
            return "" if len(mark) > 1 and self.ends_word(place) and after != before else "ー"
        goes_on = after in ("hiragana", "katakana")
        if (
            self.ends_word(place)
            or self.begins_name(place + 1, _SHORTEST_SURE_NAME)
            or (not goes_on and (before == "hiragana" or mark[0] in _WAVES))
        ):
            return mark  # りんご-バナナ, かわいい〜
        return "ー"

    def separator(self, place: int, mark: str) -> str:
        """A mark that parts a complete word from a name, with the ー that belongs to the word: ギター-ピアノ."""
        stroke = mark.lstrip("ー")[:1]
        if stroke in ("", "一") or not self.begins_name(place + 1, 2):
            return ""
        is_behind_long_vowel = mark[0] == "ー" and script_of(self.text[place - 1]) == "katakana"
        if is_behind_long_vowel or (len(mark) > 1 and self.ends_word(place + 1)):
            return f"ー{stroke}"
        return stroke if self.ends_word(place) else ""

    def begins_name(self, place: int, shortest: int) -> bool:
        """Whether something to draw stands right at a place, and no katakana goes on behind it."""
        ends = range(place + shortest, min(place + self.lexicon.longest, len(self.text)) + 1)
        return any(not self.cuts_katakana(end) and self.is_word(self.text[place:end], DRAWN) for end in ends)

    def is_word_around(self, place: int, letter: str) -> bool:
        """Whether a word begins before a place and goes on to it or beyond, if a letter stands there."""
        longest = self.lexicon.longest + 1
        starts = [start for start in range(max(place - longest, 0), place) if self.may_begin_word(start, place)]
        least = place + 1 if letter else place + 2
        ends = [end for end in range(least, min(place + longest, len(self.text)) + 1) if not self.cuts_katakana(end)]
        for start in starts:
            for end in ends:
                word = f"{self.text[start:place]}{letter}{self.text[place + 1 : end]}"
                if (len(word) > 2 or word.endswith("ー")) and self.is_word(word):
                    return True
        return False

    def may_begin_word(self, start: int, place: int) -> bool:
        return not self.cuts_katakana(start) and fold_kana(self.text[start:place].lower()) in self.lexicon.beginnings

    def cuts_katakana(self, place: int) -> bool:
        """Whether a word that begins or ends at a place would cut a run of katakana."""
        around = self.text[max(place - 1, 0) : place + 1]
        return len(around) > 1 and around[1] != "ー" and all(script_of(char) == "katakana" for char in around)

    def ends_word(self, place: int) -> bool:
        starts = range(max(place - self.lexicon.longest, 0), place - 1)
        return any(not self.cuts_katakana(start) and self.is_word(self.text[start:place]) for start in starts)

    def is_word(self, surface: str, kinds: frozenset[Kind] = _WORDS) -> bool:
        return any(meaning.kind in kinds for meaning in self.lexicon.look_up(surface))

    def is_in_katakana(self, place: int) -> bool:
        """テ一ブル, but not ペンギン一ネコ."""
        around = (self.text[place - 1], self.text[place + 1 : place + 2] or " ")
        return all(script_of(char) == "katakana" for char in around) and not self.ends_word(place)

    def begins_kanji_word(self, place: int) -> bool:
        """むらさき一角獣."""
        around = (self.text[place - 1], self.text[place + 1 : place + 2] or " ")
        return tuple(map(script_of, around)) == ("hiragana", "kanji")

    def is_counted(self, place: int) -> bool:
        return self.text.startswith(self.lexicon.counters, place + 1)


def _vowels_after(kana: str) -> str:
    """What a long vowel after a kana may be written with: きょう, とけい."""
    vowel = vowel_of(kana)
    return vowel + {"え": "い", "お": "う"}.get(vowel, "")
