"""Tell whether a text needs a translation at all."""

from frontend_streamlit.translation.japanese_lexicon import normalise, script_of


def is_english(text: str) -> bool:
    """Whether the text has Latin letters and nothing Japanese: such a text is for the picture model as it is."""
    scripts = {script_of(char) for char in normalise(text)}
    return "latin" in scripts and not scripts & {"kanji", "hiragana", "katakana"}
