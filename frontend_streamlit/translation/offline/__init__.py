"""Japanese to the English of the mini model's captions, without network or model: the vocabulary both share is data."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from frontend_streamlit.translation import Translation, TranslatorMisconfigured
from frontend_streamlit.translation.characters import normalise
from frontend_streamlit.translation.english import is_english
from frontend_streamlit.translation.offline.lexicon import Kind, Lexicon
from frontend_streamlit.translation.offline.limits import undrawn_spans
from frontend_streamlit.translation.offline.scene import Relation, Scene, Span, Thing, read_scene
from frontend_streamlit.translation.offline.segments import segment
from frontend_streamlit.translation.offline.spelling import close_gaps, mend_long_vowels
from frontend_streamlit.translation.offline.suggestions import suggest

DEFAULT_DATA_DIR = Path(__file__).resolve().parents[3] / "backend_gpu" / "mini"


class OfflineTranslator:
    """Translates sentences about what the mini model can draw and reports every other word.

    Args:
        data_dir: holds `concepts.tsv` and `grammar.toml`, read on first use.
    """

    name = "offline"
    is_closed_vocabulary = True

    def __init__(self, data_dir: Path = DEFAULT_DATA_DIR) -> None:
        self._data_dir = data_dir

    @cached_property
    def lexicon(self) -> Lexicon:
        """The words of both data files.

        Raises:
            TranslatorMisconfigured: they can't be read, or the grammar is of another version.
        """
        try:
            return Lexicon.read(self._data_dir)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TranslatorMisconfigured(
                f"can't read concepts.tsv and grammar.toml in {self._data_dir} ({error}): "
                "export the model again, or copy grammar.toml from backend_gpu/mini"
            ) from error

    def translate(self, text: str) -> Translation:
        """Translate one text; one without Japanese but with Latin letters comes back as it is."""
        if is_english(text):
            return Translation(source=text, english=text, translator=self.name)
        normal = close_gaps(mend_long_vowels(normalise(text), self.lexicon), self.lexicon)
        tokens = segment(normal, self.lexicon)
        scene = read_scene(tokens, self.lexicon)
        english = write_caption(scene, self.lexicon)
        unknown_words = _pieces(normal, _outermost(scene.unknown_spans))
        if not english and not unknown_words:  # 💙 alone adorns nothing
            unknown_words = _pieces(normal, (token.span for token in tokens if token.kind is Kind.DECORATION))
        suggestions = {word: suggest(word, self.lexicon) for word in unknown_words}
        return Translation(
            source=text,
            english=english,
            translator=self.name,
            unknown_words=unknown_words,
            not_drawn=_pieces(normal, sorted(undrawn_spans(scene, normal, self.lexicon))),
            suggestions={word: known for word, known in suggestions.items() if known},
        )


def _pieces(text: str, spans: Iterable[Span]) -> tuple[str, ...]:
    """The pieces of a text, each once."""
    return tuple(dict.fromkeys(text[start:end] for start, end in spans))


def write_caption(scene: Scene, lexicon: Lexicon) -> str:
    """The scene in the exact English of the training captions; empty if there is nothing in it."""
    parts = [" and ".join(_phrase(part, lexicon) for part in scene.phrases())]
    if scene.background:
        parts.append(f"on {lexicon.articles.apply(scene.background)} background")
    parts.extend(scene.settings)
    caption = " ".join(filter(None, parts))
    return ", ".join(filter(None, [caption, *scene.styles]))


def _phrase(part: Thing | Relation, lexicon: Lexicon) -> str:
    if isinstance(part, Thing):
        return _noun_phrase(part, lexicon)
    return f"{_noun_phrase(part.subject, lexicon)} {part.position} {_noun_phrase(part.reference, lexicon)}"


def _noun_phrase(thing: Thing, lexicon: Lexicon) -> str:
    noun = thing.noun if thing.number == 1 else lexicon.plurals[thing.noun]
    is_told = thing.noun.startswith(f"{thing.colour} ")  # a red lantern
    coloured = noun if is_told else f"{thing.colour} {noun}".strip()
    return lexicon.articles.apply(coloured) if thing.number == 1 else f"{_in_words(thing.number, lexicon)} {coloured}"


def _in_words(number: int, lexicon: Lexicon) -> str:
    return lexicon.number_words[number] if number < len(lexicon.number_words) else str(number)


def _outermost(spans: list[Span]) -> list[Span]:
    """The spans in the order of the text, without those inside another."""
    outermost: list[Span] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not outermost or end > outermost[-1][1]:
            outermost.append((start, end))
    return outermost
