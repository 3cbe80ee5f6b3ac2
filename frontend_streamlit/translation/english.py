"""Whether a text needs a translation at all."""

import re

from frontend_streamlit.translation.characters import normalise, scripts_of

TIMES = re.compile(r"\b[xX](?=\s*[0-9])")  # of 🍎x3


def is_english(text: str) -> bool:
    """Whether the text has Latin letters and nothing Japanese: such a text is for the picture model as it is."""
    scripts = set(scripts_of(TIMES.sub("", normalise(text))))
    return "latin" in scripts and not scripts & {"kanji", "hiragana", "katakana"}
