import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backend_gpu.glide.tokenizer import BytePairTokenizer, Tokenizer, WordTokenizer

ROOT = Path(__file__).parents[3]
CASES: list[dict[str, Any]] = json.loads(gzip.decompress((ROOT / "tests/data/glide_tokens.json.gz").read_bytes()))
WORDS = ["a", "red", "apple", "on", "half-moon", ",", "blue", "background"]


@pytest.fixture(scope="module")
def byte_pairs() -> BytePairTokenizer:
    return BytePairTokenizer()


@pytest.fixture
def words() -> WordTokenizer:
    return WordTokenizer(WORDS, context=6)


def test_there_are_fifty_reference_cases() -> None:
    assert len(CASES) == 50


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_byte_pairs_are_those_of_the_reference(byte_pairs: BytePairTokenizer, case: dict[str, Any]) -> None:
    assert byte_pairs.encode(case["text"]) == (case["padded_tokens"], case["mask"])
    assert byte_pairs.count(case["text"]) == len(case["tokens"])


def test_byte_pairs_have_the_vocabulary_of_the_published_checkpoints(byte_pairs: BytePairTokenizer) -> None:
    assert (byte_pairs.vocab_size, byte_pairs.context) == (50257, 128)


def test_byte_pairs_cut_silently_at_a_smaller_context() -> None:
    tokenizer = BytePairTokenizer(context=3)
    assert tokenizer.encode("an oil painting of a corgi") == ([272, 3056, 12036], [True] * 3)
    assert tokenizer.count("an oil painting of a corgi") == 7


def test_importing_the_tokenizer_leaves_tiktoken_and_torch_alone() -> None:
    code = "import sys, backend_gpu.glide.tokenizer; sys.exit(bool({'tiktoken', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_an_empty_prompt_is_all_padding(byte_pairs: BytePairTokenizer, words: WordTokenizer) -> None:
    tokenizers: list[tuple[Tokenizer, int]] = [(byte_pairs, 50256), (words, 0)]
    for tokenizer, padding_id in tokenizers:
        assert tokenizer.encode("") == ([padding_id] * tokenizer.context, [False] * tokenizer.context)
        assert tokenizer.count("") == 0


def test_words_are_numbered_from_two_in_their_order(words: WordTokenizer) -> None:
    assert words.encode("A red HALF-MOON, blue.") == ([2, 3, 6, 7, 8, 0], [True] * 5 + [False])
    assert words.vocab_size == 10


def test_words_beyond_the_context_are_counted_and_cut(words: WordTokenizer) -> None:
    assert words.count("a a a a a a red") == 7
    assert words.encode("a a a a a a red") == ([2] * 6, [True] * 6)


def test_unknown_words_share_one_id(words: WordTokenizer) -> None:
    assert words.encode("a zebra 3 りんご café red")[0] == [2, 1, 1, 1, 1, 3]


def test_captions_split_as_plain_english_words_and_commas(words: WordTokenizer) -> None:
    caption = "Two half-moon cakes, side-by-side , on a blue--red background - 'tis"
    assert words.count(caption) == len(re.findall(r"[a-z]+(?:-[a-z]+)*|,", caption.lower()))


@pytest.mark.parametrize("wrong", [["a", "a"], ["Red"], ["two words"], ["dog."], [""]])
def test_a_word_that_could_never_be_found_is_refused(wrong: list[str]) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        WordTokenizer(wrong, context=4)
