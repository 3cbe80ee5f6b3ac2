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
        self._plurals = {concept.plural for concept in vocabulary.concepts} - names
        self._numbers, self._positions = frozenset(vocabulary.counts), frozenset(vocabulary.positions)
        count, colour = any_of({"a", "an", "the", *self._numbers}), any_of(vocabulary.colours)
        self._noun = re.compile(
            f"(?:(?P<count>{count}) )?(?:(?P<colour>{colour}) )?(?P<thing>{any_of(names | self._plurals)})"
        )
        self._attributes = re.compile(f"(?P<count>{count}) (?P<colour>{colour})")
        self._unit = re.compile(
            "|".join(
                (
                    f"(?P<style>{any_of(vocabulary.styles)})",
                    f"(?P<setting>{any_of(vocabulary.scenes)}|on an? {colour} background)",
                    "(?P<nowhere>on an? background)",  # its colour is unknown
                    f"(?P<link>{any_of(self._positions | {'and'})}|,)",
                    r"(?P<word>\S+)",
                )
            )
        )

    def unknown(self, text: str) -> list[str]:
        """Words that the model never saw, each once, in the order of the text; function words are not among them."""
        return [word for word in dict.fromkeys(words_of(text)) if word not in self.known | set(FUNCTION_WORDS)]

    def names_a_thing(self, text: str) -> bool:
        """Whether there is something in the text that the model can draw, not only a background or a colour."""
        return self._noun.search(self._known(text)) is not None

    def readable(self, text: str) -> str:
        """The known words of a text in the form of a caption, since any other is noise to the model.

        That is things with an article or a number, and a colour, then where they are, then the style. Known words that
        say something else there go, such as those that hung on an unknown one: "a picture of a red zebra and a cat, in
        the snow" is "a cat in the snow" for a model without zebras. Without a thing the words stay as they are.
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
        nouns: list[str] = []
        before = None  # the attributes alone: "a red and shiny apple"
        for link, words in phrases:
            for place, noun in enumerate(self._noun.finditer(words)):
                has_own = noun["count"] or noun["colour"]
                attributes = before if before and not place and not has_own else noun
                nouns += [link if link in self._positions and not place else "and"] * bool(nouns)
                nouns.append(self._phrase(attributes["count"], attributes["colour"], noun["thing"]))
            before = self._attributes.fullmatch(words)
        if not nouns:
            return known
        return ", ".join([" ".join([*nouns, *settings]), *styles])

    def _phrase(self, count: str | None, colour: str | None, thing: str) -> str:
        """A thing as captions name it: with the number if there is one, else one of it, or two if it is plural."""
        coloured = f"{colour} {thing}" if colour else thing
        if count in self._numbers:
            return f"{count} {coloured}"
        return f"two {coloured}" if thing in self._plurals else with_article(coloured)

    def _known(self, text: str) -> str:
        return " ".join(word for word in words_of(text) if word in self.known)


def words_of(text: str) -> list[str]:
    """The words of a text, known or not."""
    return re.findall(WORD_PATTERN, visible(text).casefold())


def any_of(phrases: Iterable[str]) -> str:
    """A pattern for any of these whole phrases, the longest that fits."""
    longest_first = sorted(phrases, key=len, reverse=True)
    return rf"(?<!\S)(?:{'|'.join(map(re.escape, longest_first))})(?!\S)"
