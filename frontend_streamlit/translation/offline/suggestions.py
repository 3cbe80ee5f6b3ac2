"""Guess which known word an unknown one was meant to be: a slip of the finger, or a character that looks alike."""

import re
import unicodedata

from frontend_streamlit.translation.characters import fold_kana, script_of
from frontend_streamlit.translation.offline.lexicon import Lexicon

_SHORTEST = 3
_SHORTEST_FOR_A_NEIGHBOUR = 4  # a key beside, two characters the wrong way round
_SHORTEST_FOR_ANY_SLIP = 6
# Characters that the eye takes for each other.
_LOOK_ALIKE = frozenset(
    map(
        frozenset,
        (
            *("ソン", "シツ", "クタ", "クワ", "ウワ", "フワ", "ヌス", "コユ", "ソリ", "ルレ"),
            *("いり", "はほ", "ぬめ", "れわ", "れね", "ねわ", "るろ", "さき", "さち"),
            *("ずづ", "じぢ", "ズヅ", "ジヂ"),
            *("口ロ", "二ニ", "力カ", "工エ", "夕タ", "卜ト", "八ハ", "千チ", "三ミ", "土士", "末未", "大犬"),
        ),
    )
)
_OFTEN_MISSED = frozenset("ーっん")
_SMALL = dict(zip("ぁぃぅぇぉゃゅょっゎ", "あいうえおやゆよつわ", strict=True))
_ROMAJI_LEFT = re.compile(r"([b-df-hj-np-tv-z]{1,2})([aiueoぁ-ゖァ-ヺ])")
_LETTERS_LEFT = re.compile(r"[ぁ-ゖァ-ヺー][a-z]|[a-z][ぁ-ゖァ-ヺー]")


def suggest(word: str, lexicon: Lexicon) -> str | None:
    """The known word that an unknown one was probably meant to be; None if there is none, or two are as likely."""
    mended = {mend_romaji(word + vowel) for vowel in ("", *"aiueo")} if _LETTERS_LEFT.search(word) else set()
    known = {lexicon.spelling_of[fold_kana(kana)] for kana in mended if fold_kana(kana) in lexicon.spelling_of}
    if len(known) == 1:
        return known.pop()
    typed = fold_kana(word)
    if len(word) < _SHORTEST or lexicon.look_up(word) or typed in lexicon.look_alikes:
        return None
    likely: dict[int, dict[tuple[object, ...], str]] = {}
    for folded, spelling in lexicon.spelling_of.items():
        if folded[0] != typed[0] and folded[-1] != typed[-1]:
            continue  # most of them: one slip leaves the first or the last character
        if abs(len(folded) - len(typed)) > 1:
            continue
        slip = _slip(word, typed, folded)
        if slip is not None:
            likely.setdefault(slip, {}).setdefault(lexicon.look_up(spelling)[:1], spelling)
    best = likely[min(likely)] if likely else {}
    return next(iter(best.values())) if len(best) == 1 else None


def mend_romaji(word: str) -> str:
    """Kana for the letters that a keyboard left in a word, if they are a syllable: りんgお and りんgo are りんご."""

    def kana(match: re.Match[str]) -> str:
        consonants, vowel = match.groups()
        typed = "" if vowel.isascii() else unicodedata.name(vowel)
        script, syllable = typed.rpartition(" ")[0] or "HIRAGANA LETTER", typed.rpartition(" ")[2] or vowel
        try:
            return unicodedata.lookup(f"{script} {consonants}{syllable}".upper())
        except KeyError:
            return match[0]

    return _ROMAJI_LEFT.sub(kana, word)


def _slip(word: str, typed: str, meant: str) -> int | None:
    """How unlikely the one slip between a word and a folded one is, the likeliest 0; None if there is more than one.

    `typed` is the word folded, once for all that it is compared with.
    """
    if len(typed) == len(meant):
        places = [place for place, pair in enumerate(zip(typed, meant, strict=True)) if pair[0] != pair[1]]
        if len(places) == 1:
            return _swap(word, meant, places[0])
        if len(places) == 2 and places[1] == places[0] + 1 and len(typed) >= _SHORTEST_FOR_A_NEIGHBOUR:
            first, second = places
            return 2 if typed[first] == meant[second] and typed[second] == meant[first] else None
        return None
    longer, shorter = (typed, meant) if len(typed) > len(meant) else (meant, typed)
    if len(longer) != len(shorter) + 1 or len(meant) < _SHORTEST:
        return None
    place = next((i for i, char in enumerate(shorter) if char != longer[i]), len(shorter))
    if longer[:place] + longer[place + 1 :] != shorter:
        return None
    if longer == meant and script_of(longer[place]) == "kanji":
        return None  # 泣いている is no 泣いている顔
    is_doubled = place > 0 and longer[place] == longer[place - 1]
    if (is_doubled and longer == typed) or longer[place] in _OFTEN_MISSED:
        return 0
    is_derived = longer == typed and place == len(shorter)  # ドラゴンズ
    return 3 if len(typed) >= _SHORTEST_FOR_ANY_SLIP - 1 and not is_derived else None


def _swap(word: str, meant: str, place: int) -> int | None:
    """How unlikely it is that one character was typed for another."""
    typed, known = fold_kana(word[place]), meant[place]
    if _bare(typed) == _bare(known):
        return 0
    is_hiragana = script_of(word[place]) == "hiragana"
    if frozenset((word[place], known if is_hiragana else _katakana(known))) in _LOOK_ALIKE:
        return 1
    if place == 0 or len(word) < _SHORTEST_FOR_A_NEIGHBOUR:
        return None
    if _row(typed) and _row(typed) == _row(known):
        return 2  # か for こ: the same key of a telephone
    return 3 if len(word) >= _SHORTEST_FOR_ANY_SLIP else None


def _katakana(char: str) -> str:
    return chr(ord(char) + 0x60) if "ぁ" <= char <= "ゖ" else char


def _bare(kana: str) -> str:
    """A kana without its voiced mark, and large."""
    bare = unicodedata.normalize("NFD", kana)[0]
    return _SMALL.get(bare, bare)


def _row(kana: str) -> str:
    """The consonant of a kana."""
    name = unicodedata.name(_bare(kana), "")
    return name.rpartition(" ")[2][:-1] if name.startswith("HIRAGANA") else ""
