"""Cut a Japanese sentence into known words by longest match; what is left between them is unknown words.

Japanese has no spaces, so a name may turn up inside another word. These rules keep such hits out:
- no match begins or ends inside a run of katakana, Latin letters or digits (テーブル holds no ベル), except where
  a compound has its seam (クロネコ);
- a word in hiragana neither follows the stem of an unknown word (食べる) nor breaks off inside one (いかにも);
- a lone kanji is a word only if it does not touch another noun or an unknown kanji (日本, 木星, 月曜日).
"""

import re
import string
from dataclasses import dataclass

from frontend_streamlit.translation.characters import JOINER, scripts_of
from frontend_streamlit.translation.offline.lexicon import Kind, Lexicon, Meaning
from frontend_streamlit.translation.offline.numbers import (
    EACH,
    MAX_DIGITS,
    MAX_DIGITS_WITHOUT_COUNTER,
    NUMBERS_ON,
    NUMERAL,
    ORDINAL,
    PICTURES,
    SPACES,
    TIMES_BEFORE_NOUN,
    value_of,
)
from frontend_streamlit.translation.offline.suggestions import mend_romaji

_KATAKANA = re.compile(r"[ァ-ヺー]{4,}")
_LETTER_IN_KANA = re.compile(r"[ぁ-ゖァ-ヺー]+(?P<letters>(?!w|x)[a-z]{1,3})(?![A-Za-z])[ぁ-ゖァ-ヺー]*")
_ARTICLE = re.compile(r"(?:an?|the)\s+(?=\S)")
# An unknown adjective, verb or noun with its particle ends in one of these when a name follows it.
_ENDINGS_BEFORE_A_NAME = frozenset("るうくすむぶぐいなただのがはにでとも")
_UNCUT = ("katakana", "latin", "letter", "digit")  # scripts in which no word begins or ends inside a run
_SHORTEST_SURE_WORD = 4
_SHORTEST_SURE_NOUN = 3
_MAX_LOOKAHEAD = 3  # words; how far a decision may depend on what follows
_CONTENT = frozenset({Kind.NOUN, Kind.SCENE, Kind.COLOUR, Kind.NUMBER})
_PAUSES = "、。,.!?…・:;\n\r\v\f\x85\u2028\u2029"
_SPLITTING_PARTICLES = frozenset("がはをにでとのも")


@dataclass(frozen=True)
class Token:
    """A piece of the normalised text, `start` is its place there; several meanings if the phrase has to decide."""

    surface: str
    start: int
    meanings: tuple[Meaning, ...]

    @property
    def kind(self) -> Kind:
        return self.meanings[0].kind

    @property
    def value(self) -> str:
        return self.meanings[0].value

    @property
    def end(self) -> int:
        return self.start + len(self.surface)

    @property
    def span(self) -> tuple[int, int]:
        return self.start, self.end

    def meant_as(self, kind: Kind) -> "Token":
        """The same token with another of its meanings as the only one."""
        return Token(self.surface, self.start, tuple(m for m in self.meanings if m.kind is kind) or (Meaning(kind),))


def segment(text: str, lexicon: Lexicon) -> list[Token]:
    """Cut a normalised text into tokens that together cover every character of it."""
    return _Segmenter(text, lexicon).run()


class _Segmenter:
    def __init__(self, text: str, lexicon: Lexicon) -> None:
        self.text = text
        self.lexicon = lexicon
        self.lookahead = 0
        self.scripts = scripts_of(text)
        self.seams: set[int] = set()  # where the last part of a katakana compound begins
        for run in _KATAKANA.finditer(text):
            self.find_seam(run.start(), run.end())
        self.typos: dict[int, int] = {}  # where words with a letter of the keyboard in them begin -> where they end
        for run in _LETTER_IN_KANA.finditer(text):
            typo = self.find_typo(run)
            if typo is not None:
                self.typos[typo[0]] = typo[1]

    def run(self) -> list[Token]:
        tokens: list[Token] = []
        self.ends_of_nouns: set[int] = set()
        i = 0
        while i < len(self.text):
            token = self.match(i, last=_last_word(tokens), unknown_start=i)
            if token is not None:
                tokens.append(token)
            else:
                tokens.extend(self.unknown_words(i))
            i = tokens[-1].end
            if tokens[-1].kind is Kind.NOUN:
                self.ends_of_nouns.add(i)
        return tokens

    def find_seam(self, start: int, end: int) -> None:
        """Cut an unknown run of katakana before the longest name that it is a kind of."""
        if self.lexicon.look_up(self.text[start:end]):
            return
        for seam in range(start + 2, end - 1):
            first, last = self.text[start:seam], self.text[seam:end]
            if not self.is_kind(last, Kind.NOUN):
                continue
            is_modifier = len(first) > 2 and self.lexicon.is_modifier(first)  # トラベル is no ベル
            if is_modifier or self.is_kind(first, Kind.COLOUR) or self.lexicon.is_head(last):
                self.seams.add(seam)
            return  # a ハリネズミ is no ネズミ, whatever stands before it

    def find_typo(self, run: re.Match[str]) -> tuple[int, int] | None:
        """Where the longest known word stands that some letters among kana spoil; None for letters between words."""
        letters, rest = run.span("letters")
        for start in range(run.start(), letters):
            for end in range(run.end(), rest - 1, -1):
                sides = (self.text[start:letters], self.text[rest:end])
                parts_words = any(len(side) > 1 and self.is_kind(side, Kind.NOUN) for side in sides)
                if not parts_words and self.is_kind(mend_romaji(self.text[start:end]), Kind.NOUN):
                    return start, end
        return None

    def is_kind(self, surface: str, kind: Kind) -> bool:
        return any(meaning.kind is kind for meaning in self.lexicon.look_up(surface))

    def match(self, i: int, *, last: Token | None, unknown_start: int) -> Token | None:
        """The longest token that may start at i.

        Args:
            last: the word before, spaces aside, if the sentence has not broken since.
            unknown_start: where the run of unmatched characters right before i began; i if there is none.
        """
        if i in self.typos:
            return _unknown(self.text[i : self.typos[i]], i)
        article = _ARTICLE.match(self.text, i)
        if article and (i == 0 or self.scripts[i - 1] not in _UNCUT) and self.precedes_name(article.end()):
            return Token(article[0], i, (Meaning(Kind.FILLER),))
        number = self.match_number(i, last, unknown_start)
        shortest = len(number.surface) if number else 0
        furthest = min(start for start in (*self.typos, len(self.text)) if start >= i)
        derived_end = 0
        for j in range(min(i + self.lexicon.longest, furthest), i + max(shortest - 1, 0), -1):
            meanings = tuple(
                meaning
                for meaning in self.lexicon.look_up(self.text[i:j])
                if self.may_start(i, j, meaning.kind, last, unknown_start) and self.may_end(i, j, meaning)
            )
            if meanings and self.is_spoilt_by_particle(i, j, meanings[0].kind, last):
                continue
            if meanings and (j - i > shortest or meanings[0].kind is Kind.NOT_A_NAME):
                if derived_end and unknown_start == i:
                    return _unknown(self.text[i:derived_end], i)  # 女の子向け holds no 女
                return Token(self.text[i:j], i, meanings)
            if not derived_end and self.is_kind(self.text[i:j], Kind.NOUN):
                derived_end = self.end_of_derived(j)
        if number is not None:
            return number
        if self.scripts[i] in ("break", "space"):
            kind = Kind.SPACE if self.scripts[i] == "space" else Kind.BREAK
            return Token(self.text[i], i, (Meaning(kind),))
        return None

    def precedes_name(self, i: int) -> bool:
        """Whether Latin letters or a noun stand right at i."""
        return self.scripts[i] == "latin" or self.length_of_noun(i) > 0

    def match_number(self, i: int, last: Token | None, unknown_start: int) -> Token | None:
        """A number with its counter (2匹, 2,3匹, ×3個), or one right beside a noun (りんご 3, ×3, 3×りんご)."""
        numeral = NUMERAL.match(self.text, i)
        if numeral is None or len(numeral["number"]) > MAX_DIGITS:
            return None
        is_behind_noun = self.is_behind_noun(i, last)
        if numeral["times"] and not is_behind_noun:
            return None
        counted = self.counted_number(i, numeral, unknown_start)
        return counted or self.bare_number(i, numeral, is_behind_noun, unknown_start)

    def counted_number(self, i: int, numeral: re.Match[str], unknown_start: int) -> Token | None:
        """A number with its counter: 2匹, but 2匹目 and the 3枚 of 絵を3枚 count nothing in the picture."""
        meaning = Meaning(Kind.NUMBER, str(value_of(numeral["number"], self.lexicon.digits)))
        for end_of_numeral in dict.fromkeys((numeral.end(), numeral.end("number"))):
            end = self.end_of_counter(end_of_numeral, meaning)
            is_possible = end and self.may_start(i, end, Kind.NUMBER, None, unknown_start)
            if is_possible and not (self.length_of_noun(end_of_numeral) > end - end_of_numeral):
                if self.text.startswith(ORDINAL, end) and not self.length_of_noun(end):
                    return _unknown(self.text[i : end + len(ORDINAL)], i)
                if meaning.value == "0":
                    return Token(self.text[i:end], i, (Meaning(Kind.NEGATION),))
                if PICTURES.search(self.text[max(i - 8, 0) : i]) and self.text.startswith("枚", end_of_numeral):
                    return _unknown(self.text[i:end], i)
                is_whole_number = "." not in numeral["number"]
                return Token(self.text[i:end], i, (meaning if is_whole_number else Meaning(Kind.UNKNOWN),))
        return None

    def bare_number(self, i: int, numeral: re.Match[str], is_behind_noun: bool, unknown_start: int) -> Token | None:
        """Digits right behind or before a noun, which need no counter: りんご 3, 3×りんご."""
        number, end = numeral["number"], numeral.end("number")
        if not number.isdecimal() or len(number) > MAX_DIGITS_WITHOUT_COUNTER:
            return None
        if not self.may_start(i, end, Kind.NUMBER, None, unknown_start):
            return None
        is_model_name = self.text[:i].rstrip().endswith(tuple(string.ascii_letters))  # iPhone 15
        meaning = Meaning(Kind.NUMBER, str(value_of(number, self.lexicon.digits)))
        if is_behind_noun and not is_model_name and self.ends_phrase(end):
            return Token(self.text[i:end], i, (meaning,))
        times = TIMES_BEFORE_NOUN.match(self.text, end)
        stretch = end if times is None else times.end()
        is_part_of_name = i > 0 and self.scripts[i - 1] in _UNCUT  # H2ロケット
        if stretch == end and self.counts_parts(end):
            return None
        if not numeral["times"] and not is_part_of_name and self.length_of_noun(stretch) > (1 if stretch == end else 0):
            return Token(self.text[i:stretch], i, (meaning,))
        return None

    def is_behind_noun(self, i: int, last: Token | None) -> bool:
        """りんご 3, but also りんご:3 and りんご(3)."""
        if last is not None and last.kind in (Kind.NOUN, Kind.NOUN_SUFFIX):
            return True
        before = self.text[:i].rstrip()
        return before.endswith((":", "(", "=")) and len(before[:-1].rstrip()) in self.ends_of_nouns

    def end_of_counter(self, end: int, meaning: Meaning) -> int:
        """Where the counter of a number ends, which may stand behind a space; 0 if there is none."""
        spaces = SPACES.match(self.text, end)
        for start in dict.fromkeys((end, spaces.end() if spaces else end)):
            for counter in self.lexicon.counters:
                stop = start + len(counter)
                if self.text.startswith(counter, start) and self.may_end(end - 1, stop, meaning):
                    return stop + len(EACH) * self.text.startswith(EACH, stop)
        return 0

    def length_of_noun(self, i: int) -> int:
        """How long the noun is that begins at i, behind spaces."""
        spaces = SPACES.match(self.text, i)
        start = spaces.end() if spaces else i
        noun = self.match_after(max(start - 1, 0), start, Meaning(Kind.SPACE))
        is_noun = noun is not None and any(meaning.kind is Kind.NOUN for meaning in noun.meanings)
        return len(noun.surface) + (start > i) if noun is not None and is_noun else 0

    def counts_parts(self, i: int) -> bool:
        """Whether the noun right at i is a part of another: 2ドアの車."""
        end = i + self.length_of_noun(i)
        return end > i and self.text.startswith("の", end) and self.length_of_noun(end + 1) > 0

    def ends_phrase(self, i: int) -> bool:
        """Whether a phrase may end at i: nothing follows, a space, a break, a sign or a particle."""
        if NUMBERS_ON.match(self.text, i):
            return False
        if i == len(self.text) or self.scripts[i] in ("space", "break", "symbol"):
            return True
        following = self.match_after(i - 1, i, Meaning(Kind.NUMBER))
        return following is not None and following.kind in (Kind.PARTICLE, Kind.FILLER)

    def may_start(self, i: int, j: int, kind: Kind, last: Token | None, unknown_start: int) -> bool:
        script = self.scripts[i]
        is_after_unknown = unknown_start < i
        before = self.scripts[i - 1] if i > 0 else "space"
        if script == before and script in _UNCUT and i not in self.seams:
            return False
        if i > 0 and self.text[i - 1] == JOINER:
            return False
        if kind in _CONTENT and self.is_mimetic(i, j) and self.text.endswith(self.text[i:j], 0, i):
            return False  # ばらばら holds no ばら
        if kind is Kind.PARTICLE:
            return not is_after_unknown and self.may_be_particle(i, j, last)
        if kind is Kind.NOUN_SUFFIX:
            return not is_after_unknown and last is not None and last.kind is Kind.NOUN and last.end == i
        is_resumed = self.text.startswith(self.lexicon.resuming, i)  # その左
        if kind is Kind.POSITION and is_resumed:
            return True
        if kind is Kind.POSITION and is_after_unknown and self.text[i - 1] != "の":
            return False
        if kind is Kind.POSITION and self.is_hiragana(i, j):
            return last is not None and last.surface == "の" and last.end == i
        return not is_after_unknown or self.may_follow_unknown(i, j, kind, unknown_start)

    def may_follow_unknown(self, i: int, j: int, kind: Kind, unknown_start: int) -> bool:
        """Whether a word at i may end the unmatched characters from unknown_start on."""
        script, before = self.scripts[i], self.scripts[i - 1]
        if script == "hiragana" and before == "hiragana":
            is_clear = self.text[i - 1] in _ENDINGS_BEFORE_A_NAME or not self.is_hiragana(i, j)
            if kind is Kind.NOT_A_NAME and j - i >= _SHORTEST_SURE_WORD:
                return True  # おおきいきとちいさいいえ holds no さい
            if kind is Kind.FILLER and j - i >= _SHORTEST_SURE_WORD and self.text[i - 1] in "てで":
                return True  # neither does 踊ってください
            return kind in _CONTENT and j - i > 1 and i - unknown_start > 1 and is_clear
        if script == "hiragana":  # お月見うさぎ
            return before != "kanji" or (kind is Kind.NOUN and self.lexicon.is_head(self.text[i:j]))
        if script == "kanji" and before == "digit":
            return False
        if script == "kanji" and before == "kanji":
            return self.may_head_compound(i, j, kind, unknown_start)
        return True

    def may_be_particle(self, i: int, j: int, last: Token | None) -> bool:
        if last is None:  # 50%の猫
            is_behind_sign = i > 0 and self.scripts[i - 1] == "break" and self.text[i - 1] not in _PAUSES
            return is_behind_sign and j < len(self.text) and self.scripts[j] != "hiragana"
        if last.kind is Kind.PARTICLE:
            return False
        return last.end == i or j == len(self.text) or self.scripts[j] != "hiragana"

    def may_head_compound(self, i: int, j: int, kind: Kind, unknown_start: int) -> bool:
        """Whether a word may follow an unknown kanji: 巨大猫 is a 猫, but 日本 no 本 and 面白い not 白い."""
        if kind is Kind.COLOUR or self.text[i - 1] in self.lexicon.digits:
            return False
        if j - i > 1 and self.scripts[i + 1] == "kanji":
            return True
        return kind is Kind.NOUN and i - 2 >= unknown_start and self.scripts[i - 2] == "kanji"

    def may_end(self, i: int, j: int, meaning: Meaning) -> bool:
        kind = meaning.kind
        if kind is Kind.PREFIX and self.lookahead <= _MAX_LOOKAHEAD:
            following = self.match_after(i, j, meaning)
            return following is not None and following.kind is Kind.NOUN
        if j == len(self.text) or self.lookahead > _MAX_LOOKAHEAD:
            return True
        script, after = self.scripts[j - 1], self.scripts[j]
        if j in self.seams:
            noun = self.match_after(i, j, meaning)
            return kind is Kind.COLOUR and noun is not None and self.lexicon.draws(noun.value, meaning.value)
        if self.text[j] == JOINER or (script == after and script in _UNCUT):
            return False
        if kind in _CONTENT and self.is_mimetic(i, j) and self.text.startswith(self.text[i:j], j):
            return False
        if kind in (Kind.NOUN, Kind.STYLE, Kind.SCENE):
            end = self.end_of_derived(j)
            if end:
                following = self.match_after(i, j, meaning)
                return following is not None and following.end > end
        if kind is Kind.COLOUR and script == after == "hiragana" and self.spoils_word(i, j):
            return False
        if kind is Kind.DECORATION and script == "kanji" and after in ("kanji", "hiragana"):
            return False  # 笑っている says more than 笑
        if kind in (Kind.NOT_A_NAME, Kind.NUMBER) and self.is_particle_with_name(i, j):
            return False
        if after == "hiragana" and self.is_hiragana(i, j) and kind not in (Kind.PARTICLE, Kind.DECORATION):
            is_long_name = kind in (Kind.NOUN, Kind.NEGATION) and j - i > 2
            return is_long_name or kind is Kind.NOT_A_NAME or self.match_after(i, j, meaning) is not None
        if kind is Kind.POSITION and j - i == 1 and after == "hiragana":
            return self.match_after(i, j, meaning) is not None  # 上げる holds no 上
        if kind is Kind.PARTICLE and self.text[i:j] not in _SPLITTING_PARTICLES and after == "hiragana":
            # にもみじ is に, もみじ
            return self.match_after(i, j, meaning) is not None
        is_lone_kanji = j - i == 1 or self.scripts[j - 2] != "kanji"
        if script == after == "kanji" and (is_lone_kanji or kind is Kind.NUMBER):
            following = self.match_after(i, j, meaning)
            return following is not None and self.may_touch(kind, following)
        return True

    def end_of_derived(self, j: int) -> int:
        """Where the ending ends that makes another word of a noun before j (ハート型); 0 if there is none."""
        return next((j + len(ending) for ending in self.lexicon.derived_by if self.text.startswith(ending, j)), 0)

    def may_touch(self, kind: Kind, following: Token) -> bool:
        if kind in (Kind.COLOUR, Kind.NUMBER) or len(following.surface) > 1:
            return True
        return following.kind not in (Kind.NOUN, Kind.SCENE, kind)

    def spoils_word(self, i: int, j: int) -> bool:
        """Whether a shorter colour at i leaves a word that this one spoils: 赤い|ろうそく, 白|くま, 赤い|ろんな."""
        if self.match_after(i, j, Meaning(Kind.COLOUR)) is not None:
            return False
        if self.text.endswith("いろ", 0, j) and self.is_kind(self.text[i : j - 1], Kind.COLOUR):
            return True
        for end in range(i + 1, j):
            if self.is_kind(self.text[i:end], Kind.COLOUR):
                noun = self.match_after(i, end, Meaning(Kind.COLOUR))
                if noun is not None and noun.kind is Kind.NOUN and noun.end > j:
                    is_long = len(noun.surface) >= _SHORTEST_SURE_NOUN  # 赤い|ぬの is no 赤|いぬ
                    return is_long or (self.text[j - 1] != "い" and self.ends_phrase_in_kana(noun.end))
        return False

    def ends_phrase_in_kana(self, i: int) -> bool:
        return i == len(self.text) or self.scripts[i] != "hiragana" or self.text[i] in _SPLITTING_PARTICLES

    def is_particle_with_name(self, i: int, j: int) -> bool:
        """りんごとぶどう holds no とぶ: a particle at i and a name that ends behind j explain more of the text."""
        if self.text[i] not in _SPLITTING_PARTICLES:
            return False
        name = self.match_after(i, i + 1, Meaning(Kind.PARTICLE))
        return name is not None and name.kind in _CONTENT and name.end > j

    def is_spoilt_by_particle(self, i: int, j: int, kind: Kind, last: Token | None) -> bool:
        """右にじてんしゃ holds no にじ."""
        may_be_particle = last is not None and last.end == i and last.kind not in (Kind.PARTICLE, Kind.PREFIX)
        return kind is Kind.NOUN and may_be_particle and self.is_hiragana(i, j) and self.is_particle_with_name(i, j)

    def match_after(self, i: int, j: int, meaning: Meaning) -> Token | None:
        """What would follow text[i:j] if that were a word."""
        if j >= len(self.text):
            return None
        self.lookahead += 1
        following = self.match(j, last=Token(self.text[i:j], i, (meaning,)), unknown_start=j)
        self.lookahead -= 1
        return following

    def is_hiragana(self, i: int, j: int) -> bool:
        return all(script == "hiragana" for script in self.scripts[i:j])

    def unknown_words(self, i: int) -> list[Token]:
        """The unknown words from i to the next known one, with the particles behind them."""
        j = i + 1
        while j < len(self.text) and (self.scripts[j] == "symbol") == (self.scripts[i] == "symbol"):
            if self.match(j, last=None, unknown_start=i) is not None or (j - i > 1 and self.may_resume(j)):
                break
            if j == i + 4 and self.is_doubled(i) and self.match(j, last=None, unknown_start=j) is not None:
                break
            j += 1
        tokens: list[Token] = []
        start = i
        for k in range(i + 1, j - 1):
            if k > start and self.splits_unknown(k):
                tokens += [_unknown(self.text[start:k], start), Token(self.text[k], k, (Meaning(Kind.PARTICLE),))]
                start = k + 1
        ends_clause = j == len(self.text) or self.scripts[j] == "break"
        end = j - self.length_of_tail(start, j, ends_clause)
        tokens.append(_unknown(self.text[start:end], start))
        if end < j:
            is_copula = self.text[end:j] in self.lexicon.copulas
            tokens.append(Token(self.text[end:j], end, (Meaning(Kind.FILLER if is_copula else Kind.PARTICLE),)))
        return tokens

    def is_mimetic(self, i: int, j: int) -> bool:
        """Whether the word, if said twice, is no name: ばらばら, but いるかいるか."""
        return j - i < _SHORTEST_SURE_NOUN and self.is_hiragana(i, j)

    def is_doubled(self, i: int) -> bool:
        """きらきらおほしさま."""
        return self.is_hiragana(i, i + 4) and self.text[i : i + 2] == self.text[i + 2 : i + 4]

    def may_resume(self, j: int) -> bool:
        """Whether known words go on at j, behind an unknown one and its particle: 公園でいぬが."""
        particle = self.text[j - 1]
        if particle not in _SPLITTING_PARTICLES or (particle != "を" and self.scripts[j - 2] == "hiragana"):
            return False
        last = Token(particle, j - 1, (Meaning(Kind.PARTICLE),))
        return self.match(j, last=last, unknown_start=j) is not None

    def splits_unknown(self, k: int) -> bool:
        """Whether the character at k is a particle between two unknown words."""
        if self.text[k] == "を":
            return True
        return self.text[k] in _SPLITTING_PARTICLES and "hiragana" not in (self.scripts[k - 1], self.scripts[k + 1])

    def length_of_tail(self, start: int, end: int, ends_clause: bool) -> int:
        """How many characters at the end of an unknown run are a particle or a copula."""
        run = self.text[start:end]
        for tail in (*self.lexicon.copulas, *self.lexicon.particles):
            rest = len(run) - len(tail)
            if rest < 1 or tail in ("な", "って") or not run.endswith(tail):
                continue
            ends_in_kana = self.scripts[start + rest - 1] == "hiragana"
            is_sure = tail == "を" or tail in self.lexicon.copulas
            if is_sure or not ends_in_kana or (rest > 1 and not ends_clause):
                return len(tail)
        return 0


def _unknown(surface: str, start: int) -> Token:
    return Token(surface, start, (Meaning(Kind.UNKNOWN),))


def _last_word(tokens: list[Token]) -> Token | None:
    for token in reversed(tokens):
        if token.kind is Kind.BREAK:
            return None
        if token.kind is not Kind.SPACE:
            return token
    return None
