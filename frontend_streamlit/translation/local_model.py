"""Japanese to English by a Marian model on this machine, as OPUS-MT's ja-en converts to CTranslate2.

The two packages that run it are an extra, `requirements-local-translation.txt`, and are imported with the first text.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from frontend_streamlit.translation import Translation, TranslationEmpty, TranslatorMisconfigured
from frontend_streamlit.translation.english import is_english

if TYPE_CHECKING:
    from ctranslate2 import Translator
    from sentencepiece import SentencePieceProcessor

EXTRA = "requirements-local-translation.txt"
BEAM_SIZE = 4
MAX_TOKENS = 200  # of one input; such models know 512 positions, and CTranslate2 ends an output after 256

_FILES = ("model.bin", "config.json", "source.spm", "target.spm")
_VOCABULARIES = (("shared_vocabulary",), ("source_vocabulary", "target_vocabulary"))
_SENTENCE = re.compile(r"[^。！？!?]+(?:[。！？!?]+[」』）)]*)?")


@dataclass(frozen=True, kw_only=True)
class _Model:
    translator: "Translator"
    source: "SentencePieceProcessor"
    target: "SentencePieceProcessor"
    source_end: tuple[str, ...]  # what the converter left to us to add: by way of transformers it does, of Marian not


class LocalModelTranslator:
    """Translates sentence by sentence, as such models are trained; threads may share it.

    Args:
        folder: holds `model.bin`, `config.json`, `shared_vocabulary.*` (or one for each side), `source.spm`,
            `target.spm`; read on first use.
    """

    name = "local"
    is_closed_vocabulary = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model: _Model | None = None
        self._model_lock = Lock()

    def translate(self, text: str) -> Translation:
        """Translate one text, line by line; its unknown words are the characters that the model has never seen.

        Raises: TranslatorMisconfigured, TranslationEmpty.
        """
        if not text.strip() or is_english(text):
            return Translation(source=text, english=text, translator=self.name)
        model = self._loaded()
        lines = [_inputs(line, model.source) for line in text.splitlines() if line.strip()]
        english = "\n".join(filter(None, self._translate_lines(lines, model)))
        if not english:
            raise TranslationEmpty(f"the model in {self._folder} answered without a text")
        unknown = model.source.unk_id()
        pieces = [piece for line in lines for tokens in line for piece in tokens]
        unknown_words = dict.fromkeys(piece for piece in pieces if model.source.piece_to_id(piece) == unknown)
        return Translation(
            source=text,
            english=english,
            translator=self.name,
            unknown_words=tuple(unknown_words),
        )

    def _translate_lines(self, lines: list[list[list[str]]], model: _Model) -> Iterator[str]:
        inputs = [[*tokens, *model.source_end] for line in lines for tokens in line]
        try:
            results = model.translator.translate_batch(inputs, beam_size=BEAM_SIZE, disable_unk=True)
        except (RuntimeError, ValueError) as error:
            raise TranslatorMisconfigured(f"the model in {self._folder} does not work: {error}") from error
        outputs = (_detokenized(result.hypotheses[0], model.target) for result in results)
        for line in lines:
            yield " ".join(filter(None, islice(outputs, len(line))))

    def _loaded(self) -> _Model:
        with self._model_lock:
            if self._model is None:
                self._model = _load(self._folder)
            return self._model


def _load(folder: Path) -> _Model:
    missing = _missing_files(folder)
    if missing:
        raise TranslatorMisconfigured(
            f"{folder.resolve()} lacks {', '.join(missing)}: convert an OPUS-MT ja-en model with "
            "ct2-transformers-converter or ct2-opus-mt-converter, and copy its source.spm and target.spm"
        )
    try:
        from ctranslate2 import Translator
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise TranslatorMisconfigured(
            f"a model on this machine needs two packages more: pip install -c constraints.txt -r {EXTRA} ({error})"
        ) from error
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return _Model(
            translator=Translator(str(folder)),
            source=SentencePieceProcessor(model_file=str(folder / "source.spm")),
            target=SentencePieceProcessor(model_file=str(folder / "target.spm")),
            source_end=() if config.get("add_source_eos") else (config.get("eos_token", "</s>"),),
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise TranslatorMisconfigured(f"the model in {folder} is broken, convert it again: {error}") from error


def _missing_files(folder: Path) -> list[str]:
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if not any(all(list(folder.glob(f"{name}.*")) for name in names) for names in _VOCABULARIES):
        missing.append("shared_vocabulary.json")
    return missing


def _inputs(line: str, source: "SentencePieceProcessor") -> list[list[str]]:
    """The tokens of every sentence in a line, those of an endless one in several parts."""
    sentences = [source.encode(sentence, out_type=str) for sentence in _SENTENCE.findall(line)]
    return [tokens[at : at + MAX_TOKENS] for tokens in sentences for at in range(0, len(tokens), MAX_TOKENS)]


def _detokenized(tokens: list[str], target: "SentencePieceProcessor") -> str:
    """The text; pieces of the source side, which a shared vocabulary lets through, keep their mark of a space."""
    return str(target.decode(tokens)).replace("▁", " ").strip()
