"""Text to token ids: GPT-2 byte pairs for the published checkpoints, whole words for a mini model."""

import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

GPT2_VOCABULARY = Path(__file__).with_name("gpt2_vocab.bpe.gz")
GPT2_PIECE = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*|,")
PADDING_ID, UNKNOWN_ID, FIRST_WORD_ID = 0, 1, 2  # of WordTokenizer


class Tokenizer(Protocol):
    """What a text encoder needs of its tokenizer."""

    context: int  # tokens that one prompt may have
    vocab_size: int

    def count(self, text: str) -> int:
        """Number of tokens of the whole text, which may exceed the context."""

    def encode(self, text: str) -> tuple[list[int], list[bool]]:
        """Ids and mask (True = real token), both padded or cut to the context."""


class BytePairTokenizer:
    """GPT-2 byte pairs of the lower-cased text; the end token, 50256, is also the padding."""

    def __init__(self, context: int = 128) -> None:
        import tiktoken  # here, because a mini model never needs it

        ranks = gpt2_ranks()
        self.context = context
        self.vocab_size = len(ranks) + 1
        self._padding_id = len(ranks)
        self._encoding = tiktoken.Encoding("gpt2", pat_str=GPT2_PIECE, mergeable_ranks=ranks, special_tokens={})

    def count(self, text: str) -> int:
        return len(self._ids(text))

    def encode(self, text: str) -> tuple[list[int], list[bool]]:
        return padded(self._ids(text), self.context, self._padding_id)

    def _ids(self, text: str) -> list[int]:
        return self._encoding.encode_ordinary(text.lower())


class WordTokenizer:
    """One id per word of a closed vocabulary: 0 pads, 1 is any unknown word, known words follow in their order."""

    def __init__(self, words: Sequence[str], context: int) -> None:
        self._ids_of = {word: index for index, word in enumerate(words, FIRST_WORD_ID)}
        if len(self._ids_of) < len(words):
            raise ValueError("the vocabulary has a word twice")
        for word in words:
            if word != word.lower() or not WORD.fullmatch(word):
                raise ValueError(f"the vocabulary has {word!r}, which is not one lower-case word or a comma")
        self.context = context
        self.vocab_size = FIRST_WORD_ID + len(words)

    def count(self, text: str) -> int:
        return len(self.words(text))

    def encode(self, text: str) -> tuple[list[int], list[bool]]:
        ids = [self._ids_of.get(word, UNKNOWN_ID) for word in self.words(text)]
        return padded(ids, self.context, PADDING_ID)

    @staticmethod
    def words(text: str) -> list[str]:
        """The words of a text, known or not."""
        return WORD.findall(text.lower())


def padded(ids: list[int], context: int, padding_id: int) -> tuple[list[int], list[bool]]:
    """Ids and mask of length context; what goes beyond it is cut."""
    ids = ids[:context]
    missing = context - len(ids)
    return ids + [padding_id] * missing, [True] * len(ids) + [False] * missing


def gpt2_ranks() -> dict[bytes, int]:
    """Bytes of every GPT-2 token with its id: the 256 single bytes, then one token per merge.

    The vocabulary file writes each byte as one visible character: printable Latin-1 as itself, the rest from U+0100 on.
    """
    printable = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    ranks = {bytes([byte]): rank for rank, byte in enumerate(byte_of.values())}
    _version, *merges = gzip.decompress(GPT2_VOCABULARY.read_bytes()).decode().splitlines()
    for merge in merges:
        ranks[bytes(byte_of[character] for character in merge if character != " ")] = len(ranks)
    return ranks
