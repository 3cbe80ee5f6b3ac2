"""What the mini model reads of a prompt: the words that it knows, in the form of its captions."""

import re
from collections.abc import Iterable

from backend_gpu.mini.vocabulary import Vocabulary, with_article
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
        names = {concept.english for concept in vocabulary.concepts}
        plurals = {concept.plural for concept in vocabulary.concepts} - names
        self._thing, self._things = re.compile(any_of(names | plurals)), re.compile(any_of(plurals) + "$")
        self._counts = {"a", "an", "the", *vocabulary.counts}
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
        """The known words of a text in the form of a caption, since any other is noise to the model.

        What hung on an unknown word goes with it: "a red zebra and a cat in the snow" is "a cat in the snow" for a
        model without zebras. A thing gets the article or the number that every caption has: "cat" is "a cat".
        """
        known = self._known(text)
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
        things = [(link, words) for link, words in phrases if self._thing.search(words)]
        counted = [(link, self._counted(words)) for link, words in things]
        if counted == things and not self.unknown(text):
            return known
        (_, first), *others = counted or [("", "")]
        scene = " ".join(filter(None, (first, *(f"{link} {words}" for link, words in others), *settings)))
        return ", ".join(filter(None, (scene, *styles)))

    def _counted(self, words: str) -> str:
        """A thing with an article or a number before it: one if it is named so, else two."""
        if words.split()[0] in self._counts:
            return words
        return f"two {words}" if self._things.search(words) else with_article(words)

    def _known(self, text: str) -> str:
        return " ".join(word for word in words_of(text) if word in self.known)


def words_of(text: str) -> list[str]:
    """The words of a text, known or not."""
    return re.findall(WORD_PATTERN, visible(text).casefold())


def any_of(phrases: Iterable[str]) -> str:
    """A pattern for any of these whole phrases, the longest that fits."""
    longest_first = sorted(phrases, key=len, reverse=True)
    return rf"(?<!\S)(?:{'|'.join(map(re.escape, longest_first))})(?!\S)"
