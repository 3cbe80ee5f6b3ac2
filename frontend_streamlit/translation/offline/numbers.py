"""How numbers are written: in digits or kanji, as a range, with a sign of multiplication."""

import re
from collections.abc import Mapping

NUMERAL = re.compile(
    r"(?P<times>(?:[×✕✖⨯*]|[xX](?=\s*[0-9]))\s*)?"
    r"(?P<number>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+(?:\.[0-9]+)?|[〇一二三四五六七八九十百千]+)"
    r"(?P<upper>\s?[〜~,、・-]\s?(?P<to>[0-9]+|[一二三四五六七八九十百千]+))?"  # 2,3匹: two or three
)
TIMES_BEFORE_NOUN = re.compile(r"\s*[×✕✖⨯*xX]\s*")
# A bare number is no count before one of these: 3.5; 2. バナナ of a list; 512×512, 16:9, 10%; a unit or 号
NUMBERS_ON = re.compile(
    r"[.,][0-9]|[.)]\s*[^\s.)]|\s*[×✕✖⨯*xX:/-]\s*[0-9]|\s*[%°号]|\s*(?:[mkc]?m|k?g|px|[mgk]b|fps|hz|[kp])(?![a-z])",
    re.IGNORECASE,
)
SPACES = re.compile(r"[^\S\n]*")
_TENS = {"十": 10, "百": 100, "千": 1000}
EACH = "ずつ"
PICTURES = re.compile(r"(?:絵|イラスト|画像)[をが]?\s*$")  # 猫の絵を3枚 has one cat in each
ORDINAL = "目"  # 2匹目
MAX_DIGITS = 9
MAX_DIGITS_WITHOUT_COUNTER = 3  # more are a year


def value_of(numeral: str, digits: Mapping[str, int]) -> int:
    """The number in Arabic digits (its whole part) or kanji numerals; 二三 is two or three, 二〇 twenty."""
    numeral = numeral.replace(",", "").partition(".")[0]
    if numeral.isdecimal():
        return int(numeral)
    if "〇" in numeral:
        return int("".join(str(digits.get(char, 0)) for char in numeral))
    total = digit = 0
    for char in numeral:
        if char in _TENS:
            total += max(digit, 1) * _TENS[char]
            digit = 0
        else:
            digit = digit or digits[char]
    return total + digit
