"""What the mini model reads of a prompt: the words that it knows, in the form of its captions."""

import re
from collections.abc import Iterable

from backend_gpu.mini.vocabulary import Vocabulary
from backend_gpu.plain_text import visible

# In lower-case NFKC text without unseen characters: letters and digits with hyphens inside, a comma, or pictographs.
# What follows an apostrophe belongs to the word before, but for a possessive s.
WORD_PATTERN = r"[^\W_]+(?:-[^\W_]+)*(?:['’](?!s\b)[^\W_]+)*|,|[\u2190-\u2bff\U0001f000-\U0001faff]+"
# English words that say nothing about what to draw, whether the model knows them or not
FUNCTION_WORDS = ("a", "an", "and", "the", "of", "on", "in", "at", "to", "s", "background", "style", ",")


class PromptWords:
    """The words of a model.

    Args:
        known: those that the model learned.
        vocabulary: what its captions said with them.
    """

    def __init__(self, known: Iterable[str], vocabulary: Vocabulary) -> None:
        self.known = frozenset(known)
        self._thing = re.compile(
            any_of(name for concept in vocabulary.concepts for name in (concept.english, concept.plural))
        )
        self._unit = re.compile(
            "|".join(
                (
                    f"(?P<style>{any_of(vocabulary.styles)})",
                    f"(?P<setting>{any_of(vocabulary.scenes)}|on an? {any_of(vocabulary.colours)} background)",
                    "(?P<nowhere>on an? background)",  # its colour is unknown
                    f"(?P<link>{any_of((*vocabulary.positions, 'and'))}|,)",
                    r"(?P<word>\S+)",
                )
            )
        )

    def unknown(self, text: str) -> list[str]:
        """Words that the model never saw, each once, in the order of the text; function words are not among them."""
        return [word for word in dict.fromkeys(words_of(text)) if word not in self.known | set(FUNCTION_WORDS)]

    def names_a_thing(self, text: str) -> bool:
        """Whether there is something in the text that the model can draw, not only a background or a colour."""
        return self._thing.search(self._known(text)) is not None

    def readable(self, text: str) -> str:
        """The known words of a text. If there are others, what hung on them goes too: colours, links, articles.

        "a red zebra and a cat in the snow" is "a cat in the snow" for a model without zebras: "a red and a cat" would
        be noise to it.
        """
        known = self._known(text)
        if not self.unknown(text):
            return known
        phrases, settings, styles = [("", "")], [], []  # phrases: a link, and the words behind it
        for unit in self._unit.finditer(known):
            if unit["link"]:
                phrases.append((unit[0], ""))
            elif unit["word"]:
                link, words = phrases[-1]
                phrases[-1] = (link, f"{words} {unit[0]}".strip())
            elif unit["setting"]:
                settings.append(unit[0])
            elif unit["style"]:
                styles.append(unit[0])
        (_, first), *others = [phrase for phrase in phrases if self._thing.search(phrase[1])] or [("", "")]
        scene = " ".join(filter(None, (first, *(f"{link} {words}" for link, words in others), *settings)))
        return ", ".join(filter(None, (scene, *styles)))

    def _known(self, text: str) -> str:
        return " ".join(word for word in words_of(text) if word in self.known)


def words_of(text: str) -> list[str]:
    """The words of a text, known or not."""
    return re.findall(WORD_PATTERN, visible(text).casefold())


def any_of(phrases: Iterable[str]) -> str:
    """A pattern for any of these whole phrases, the longest that fits."""
    longest_first = sorted(phrases, key=len, reverse=True)
    return rf"(?<!\S)(?:{'|'.join(map(re.escape, longest_first))})(?!\S)"
