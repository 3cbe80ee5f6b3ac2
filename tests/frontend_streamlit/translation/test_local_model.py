"""A real CTranslate2 model with real SentencePiece models, small and with weights made by hand: a dictionary.

It is a Transformer of one layer, laid out like OPUS-MT's models. Tokens and positions are one-hot, so that output t
attends to input t alone and becomes its translation.
"""

import io
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
from ctranslate2.specs import TransformerSpec
from ctranslate2.specs.common_spec import LayerNormSpec, LinearSpec
from numpy.typing import NDArray
from sentencepiece import SentencePieceTrainer

from frontend_streamlit.translation import Translation, TranslationEmpty, TranslatorMisconfigured, local_model
from frontend_streamlit.translation.local_model import LocalModelTranslator

# SentencePiece starts every text with ▁, which happens to make an article.
DICTIONARY = {"▁": "▁a", "赤い": "▁red", "青い": "▁blue", "りんご": "▁apple", "猫": "▁cat", "店": "▁store"}
DICTIONARY |= {"絵": "▁picture", "。": ".", "」": '"'}
ENGLISH_ONLY = ["▁shop", "!"]
NOT_IN_TARGET_SPM = "▁picture"  # as pieces that the shared vocabulary has from the source side
VOCABULARY = ["</s>", "<unk>", *DICTIONARY, *DICTIONARY.values(), *ENGLISH_ONLY]
SHARP = 40.0  # scores so far apart that the softmax is almost one-hot


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What may differ between two models."""

    positions: int = 256
    adds_source_eos: bool = True


def _identity(norm: LayerNormSpec, width: int) -> None:
    """Undo the normalisation of a vector of two ones, a token and a position."""
    mean = 2 / width
    norm.beta = np.full(width, mean, np.float32)
    norm.gamma = np.full(width, np.sqrt(mean - mean**2), np.float32)


def _linear(linear: LinearSpec, weight: NDArray[np.floating]) -> None:
    linear.weight = weight.astype(np.float32)
    linear.bias = np.zeros(len(weight), np.float32)


def _build_model(folder: Path, layout: Layout) -> None:
    words = len(VOCABULARY)
    width = words + layout.positions
    unit = np.eye(width, dtype=np.float32)
    is_word = np.arange(width) < words
    nothing = np.zeros((width, width))
    at = {word: place for place, word in enumerate(VOCABULARY)}
    translate = np.zeros((width, width))
    for japanese, english in {**DICTIONARY, "</s>": "</s>", "<unk>": "<unk>"}.items():
        translate[at[english], at[japanese]] = 10  # outweighs the token before, of which there is 1
    # A shop is a little likelier than a store, but the word before "。" counts too, and makes "!" as likely as ".".
    translate[at["▁shop"], at["店"]] = 10.02
    translate[at["!"], at["。"]] = 9
    word_before = unit[:words].copy()
    word_before[at["▁shop"]] = unit[at["!"]]

    spec = TransformerSpec.from_config(num_layers=1, num_heads=1)
    spec.encoder.embeddings[0].weight = unit[:words]
    spec.decoder.embeddings.weight = word_before
    spec.decoder.start_from_zero_embedding = True
    for side in (spec.encoder, spec.decoder):
        [layer] = side.layer
        side.scale_embeddings = False
        side.position_encodings.encodings = unit[words:]
        for norm in (side.layer_norm, layer.self_attention.layer_norm, layer.ffn.layer_norm):
            _identity(norm, width)
        _linear(layer.self_attention.linear[0], np.concatenate([nothing] * 3))
        for linear in (layer.self_attention.linear[1], layer.ffn.linear_0, layer.ffn.linear_1):
            _linear(linear, nothing)
    attention = spec.decoder.layer[0].attention
    _identity(attention.layer_norm, width)
    _linear(attention.linear[0], SHARP * np.sqrt(width) * np.diag(~is_word))  # queries: where
    _linear(attention.linear[1], np.concatenate([np.diag(~is_word), np.diag(is_word)]))  # keys: where; values: what
    _linear(attention.linear[2], translate)
    _linear(spec.decoder.projection, SHARP * unit[:words])

    spec.register_source_vocabulary(VOCABULARY)
    spec.register_target_vocabulary(VOCABULARY)
    spec.config.add_source_eos = layout.adds_source_eos
    spec.validate()
    spec.optimize()
    spec.save(str(folder))


def _train_pieces(path: Path, words: list[str]) -> None:
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([*words, "".join(words)]),
        model_writer=model,
        vocab_size=100,
        hard_vocab_limit=False,
        user_defined_symbols=words,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())


def _build(folder: Path, layout: Layout | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    _build_model(folder, layout or Layout())
    _train_pieces(folder / "source.spm", [word for word in DICTIONARY if word != "▁"])
    english = [*DICTIONARY.values(), *ENGLISH_ONLY]
    _train_pieces(folder / "target.spm", [word for word in english if word != NOT_IN_TARGET_SPM])
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For tests that change nothing in it."""
    return _build(tmp_path_factory.mktemp("opus-mt-ja-en"))


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """For tests that break it."""
    return Path(shutil.copytree(built, tmp_path / "opus-mt-ja-en"))


@pytest.mark.parametrize(
    ("japanese", "english"),
    [
        ("赤いりんご", "a red apple"),
        ("青い猫。", "a blue cat."),
        ("赤い絵", "a red picture"),
        ("青い猫\n\n赤いりんご\r\n", "a blue cat\na red apple"),
        ("赤いりんご。青い猫。\n猫", "a red apple. a blue cat.\na cat"),
        ("猫。」猫", 'a cat." a cat'),  # a closing quotation mark belongs to the sentence before it
    ],
)
def test_a_text_is_translated_sentence_by_sentence_and_keeps_its_lines(
    built: Path, japanese: str, english: str
) -> None:
    assert LocalModelTranslator(built).translate(japanese) == Translation(
        source=japanese, english=english, translator="local"
    )


def test_characters_that_the_model_has_never_seen_are_reported(built: Path) -> None:
    translation = LocalModelTranslator(built).translate("鬱猫。鬱りんご。🫠猫")
    assert translation.unknown_words == ("鬱", "🫠")
    assert translation.english == "a a cat. a a apple. a a cat"  # the second choice, and never <unk>


def test_a_sentence_without_an_end_is_translated_to_its_end(built: Path) -> None:
    assert LocalModelTranslator(built).translate("赤い猫" * 150).english == "a" + " red cat" * 150


@pytest.mark.parametrize(("adds_source_eos", "end"), [(True, []), (False, ["</s>"])])
def test_a_sentence_is_ended_once_whichever_converter_made_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, adds_source_eos: bool, end: list[str]
) -> None:
    inputs = []

    class Recorded(ctranslate2.Translator):  # type: ignore[misc]  # has no types
        def translate_batch(self, source: list[list[str]], **options: object) -> object:
            inputs.extend(source)
            return super().translate_batch(source, **options)

    monkeypatch.setattr(ctranslate2, "Translator", Recorded)
    folder = _build(tmp_path, Layout(adds_source_eos=adds_source_eos))
    assert LocalModelTranslator(folder).translate("赤い猫").english == "a red cat"
    assert inputs == [["▁", "赤い", "猫", *end]]


@pytest.mark.parametrize("text", ["a red apple, 4K", "", " \n"])
def test_english_and_blanks_come_back_without_a_model(tmp_path: Path, text: str) -> None:
    translation = LocalModelTranslator(tmp_path / "absent").translate(text)
    assert translation == Translation(source=text, english=text, translator="local")


def test_a_text_without_words_is_an_error(built: Path) -> None:
    with pytest.raises(TranslationEmpty):
        LocalModelTranslator(built).translate("。。！")


def test_threads_share_a_model_that_is_loaded_once(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    class Counted(ctranslate2.Translator):  # type: ignore[misc]  # has no types
        def __init__(self, path: str) -> None:
            loaded.append(path)
            super().__init__(path)

    monkeypatch.setattr(ctranslate2, "Translator", Counted)
    translator = LocalModelTranslator(built)
    texts = ["赤いりんご", "青い猫", "青いりんご", "赤い猫"] * 4
    with ThreadPoolExecutor(8) as threads:
        english = [translation.english for translation in threads.map(translator.translate, texts)]
    assert english == ["a red apple", "a blue cat", "a blue apple", "a red cat"] * 4
    assert loaded == [str(built)]


def test_the_likeliest_sentence_wins_over_the_likeliest_word(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LocalModelTranslator(built).translate("店。").english == "a store."
    monkeypatch.setattr(local_model, "BEAM_SIZE", 1)
    assert LocalModelTranslator(built).translate("店。").english.startswith("a shop")


@pytest.mark.parametrize("name", ["model.bin", "config.json", "shared_vocabulary.json", "source.spm", "target.spm"])
def test_a_missing_file_is_named_with_what_to_do(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(TranslatorMisconfigured, match=f"lacks {name}: convert"):
        LocalModelTranslator(folder).translate("猫")


def test_a_missing_folder_lacks_everything(tmp_path: Path) -> None:
    with pytest.raises(TranslatorMisconfigured, match=r"absent lacks model\.bin, .*, shared_vocabulary\.json"):
        LocalModelTranslator(tmp_path / "absent").translate("猫")


def test_a_vocabulary_for_each_side_does_as_well(folder: Path) -> None:
    vocabulary = folder / "shared_vocabulary.json"
    shutil.copy(vocabulary, folder / "source_vocabulary.json")
    vocabulary.rename(folder / "target_vocabulary.json")
    assert LocalModelTranslator(folder).translate("猫").english == "a cat"


@pytest.mark.parametrize("name", ["model.bin", "config.json", "shared_vocabulary.json", "source.spm", "target.spm"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00 nonsense"])
def test_a_broken_file_is_a_broken_model(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(TranslatorMisconfigured, match="is broken, convert it again"):
        LocalModelTranslator(folder).translate("猫")


def test_a_model_that_fails_at_work_is_misconfigured(tmp_path: Path) -> None:
    folder = _build(tmp_path, Layout(positions=4))
    with pytest.raises(TranslatorMisconfigured, match="does not work: No position encodings"):
        LocalModelTranslator(folder).translate("赤い猫" * 4)


def test_a_model_that_was_missing_is_found_once_it_is_there(built: Path, tmp_path: Path) -> None:
    translator = LocalModelTranslator(tmp_path / "later")
    with pytest.raises(TranslatorMisconfigured):
        translator.translate("猫")
    shutil.copytree(built, tmp_path / "later")
    assert translator.translate("猫").english == "a cat"


@pytest.mark.parametrize("package", ["ctranslate2", "sentencepiece"])
def test_a_missing_package_is_named_with_what_to_install(
    built: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(TranslatorMisconfigured, match=rf"-r requirements-local-translation\.txt \(.*{package}"):
        LocalModelTranslator(built).translate("猫")


def test_importing_the_translator_imports_neither_package() -> None:
    names = {"ctranslate2", "sentencepiece"}
    code = f"import sys, frontend_streamlit.translation.local_model; sys.exit(bool({names} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
