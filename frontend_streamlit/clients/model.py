"""What a model says of itself: its stages, samplers, limits and words. The page knows no model but by this."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

# Beside format characters: fillers, and marks that choose a look
UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | {
    chr(code)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
    for code in range(first, last + 1)
}


class Record(BaseModel):
    """A part of the description; what a later backend adds to it is passed over."""

    model_config = ConfigDict(frozen=True)


class Text(Record):
    """Words for people."""

    ja: str
    en: str

    def in_language(self, language: str) -> str:
        """Those of "ja" or "en"."""
        return self.ja if language == "ja" else self.en


class Stage(Record):
    """One pass of the sampler."""

    name: str
    label: Text
    steps: int = Field(ge=1)  # if nobody asks for others
    steps_field: Literal["steps", "upsample_steps"]  # of a request


class Guidance(Record):
    """How closely the model may be made to follow the text."""

    default: float
    least: float
    most: float


class Caution(Record):
    """What to expect of prompts that have one of the words; of all prompts, if there are none."""

    words: frozenset[str]
    text: Text

    def concerns(self, english: str) -> bool:
        """Whether it is to be said of that prompt."""
        text = folded(english)
        return not self.words or any(re.search(rf"\b{re.escape(word)}\b", text) for word in self.words)


class Vocabulary(Record):
    """The only words that a model knows."""

    words: frozenset[str]
    word_pattern: re.Pattern[str]
    function_words: frozenset[str]
    experimental: tuple[str, ...]  # phrases that are not drawn well
    untrained: frozenset[str]  # phrases of the grammar that are not drawn at all
    things: Mapping[str, tuple[Text, ...]]  # by kind: concept, colour, scene, style

    def unknown_words(self, english: str) -> list[str]:
        """Words of a prompt that the model does not know, each once."""
        known = self.words | self.function_words
        words = dict.fromkeys(self.word_pattern.findall(folded(english)))
        return [word for word in words if word not in known]

    def draws(self, phrase: str) -> bool:
        """Whether the model was trained to draw what a phrase of its grammar names."""
        return phrase not in self.untrained and not self.unknown_words(phrase)

    def experimental_phrases(self, english: str) -> list[str]:
        """Phrases in a prompt that the model does not draw well."""
        return [phrase for phrase in self.experimental if re.search(rf"\b{re.escape(phrase)}\b", english.lower())]

    def name_of(self, phrase: str, language: str) -> str:
        """What a phrase is called in a language: itself, where the vocabulary does not say."""
        things = (thing for things in self.things.values() for thing in things)
        return next((thing.in_language(language) for thing in things if thing.en == phrase), phrase)


class ModelDescription(Record):
    """A model, as the backend and a file beside the gallery describe it."""

    id: str
    stages: tuple[Stage, ...] = Field(min_length=1)  # in the order of drawing
    max_steps: int = Field(ge=1)  # of a stage
    samplers: tuple[str, ...] = Field(min_length=1)  # the default first
    qualities: Mapping[str, Mapping[str, int]]  # steps by stage, by the quality's name
    guidance: Guidance | None
    has_negative_prompt: bool = Field(alias="negative_prompt")
    warnings: tuple[Caution, ...]
    examples: tuple[Text, ...]
    vocabulary: Vocabulary | None  # None: any English

    @model_validator(mode="after")
    def _is_whole(self) -> "ModelDescription":
        names = {stage.name for stage in self.stages}
        if any(steps.keys() != names for steps in self.qualities.values()):
            raise ValueError("a quality has a number of steps for each stage")
        return self


def read_description(document: Any) -> ModelDescription:
    """The description in a document.

    Raises:
        ValueError: it is none, or one of another version.
    """
    try:
        return ModelDescription.model_validate(document)
    except ValidationError as error:
        raise ValueError(str(error)) from error


def folded(text: str) -> str:
    """A text as the backend looks for words in it: NFKC, lower case, without characters that nobody sees."""
    seen = "".join(
        character for character in text if unicodedata.category(character) != "Cf" and character not in UNSEEN
    )
    return unicodedata.normalize("NFKC", seen).casefold()
