"""Sentences as people write them, and properties that hold for the whole vocabulary."""

import csv
import random
import re
import tomllib
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from frontend_streamlit.translation import Translation, TranslatorMisconfigured
from frontend_streamlit.translation.characters import fold_kana, normalise
from frontend_streamlit.translation.offline import DEFAULT_DATA_DIR, OfflineTranslator
from frontend_streamlit.translation.offline.lexicon import Kind, japanese_names
from frontend_streamlit.translation.offline.scene import read_scene_graph
from frontend_streamlit.translation.offline.segments import segment


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


CONCEPTS = _rows(DEFAULT_DATA_DIR / "concepts.tsv")
GRAMMAR = tomllib.loads((DEFAULT_DATA_DIR / "grammar.toml").read_text(encoding="utf-8"))
SENTENCES = _rows(Path(__file__).with_name("sentences.tsv"))
TYPED = _rows(Path(__file__).with_name("typed.tsv"))  # with U+0000 for what can't be seen
TRANSLATOR = OfflineTranslator()
OPPOSITE = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}
LEXICON = TRANSLATOR.lexicon
OWN = GRAMMAR["translator"]


def _a(phrase: str) -> str:
    is_an = phrase[0] in "aeiou" and not phrase.startswith(("ufo", "unicorn"))
    return f"{'an' if is_an else 'a'} {phrase}"


def _understood(japanese: str) -> str:
    """The English of a text in which every word must be known."""
    translation = TRANSLATOR.translate(japanese)
    assert translation.unknown_words == (), japanese
    return translation.english


@pytest.mark.parametrize("row", SENTENCES, ids=lambda row: row["japanese"])
def test_a_sentence_becomes_the_expected_caption(row: dict[str, str]) -> None:
    translation = TRANSLATOR.translate(row["japanese"].replace("\\n", "\n"))
    assert translation.english == row["english"]
    assert list(translation.unknown_words) == [word for word in row["unknown words"].split("、") if word]


@pytest.mark.parametrize("row", TYPED, ids=lambda row: row["japanese"])
def test_what_people_type_becomes_english_and_the_rest_is_told(row: dict[str, str]) -> None:
    typed = re.sub(r"<U\+([0-9A-F]+)>", lambda code: chr(int(code[1], 16)), row["japanese"])
    translation = TRANSLATOR.translate(typed)
    assert translation.english == row["english"]
    assert "、".join(translation.unknown_words) == row["unknown words"]
    assert "、".join(translation.not_drawn) == row["not drawn"]
    assert "、".join(f"{word}→{known}" for word, known in translation.suggestions.items()) == row["suggestions"]


def test_the_table_has_the_promised_number_of_sentences_and_concepts() -> None:
    assert len({row["japanese"] for row in SENTENCES}) >= 800
    assert len(CONCEPTS) >= 678


@pytest.mark.parametrize("column", ["glyph", "english", "plural"])
def test_no_two_concepts_share_a_cell(column: str) -> None:
    assert [cell for cell, count in Counter(row[column] for row in CONCEPTS).items() if count > 1] == []


def test_every_concept_is_complete() -> None:
    for row in CONCEPTS:
        assert len(row["glyph"]) == 1, row
        assert all((row["english"], row["plural"], row["japanese"])), row
        assert row["colour"] in {"", *(colour["english"] for colour in GRAMMAR["colour"])}, row
        assert row["tint"] in {"", "yes"}, row


def test_no_japanese_name_belongs_to_two_concepts() -> None:
    owners: dict[str, set[str]] = {}
    for row in CONCEPTS:
        for name in (*japanese_names(row), row["glyph"]):
            owners.setdefault(normalise(name).lower(), set()).add(row["english"])
    assert {name: concepts for name, concepts in owners.items() if len(concepts) > 1} == {}


def test_kana_folding_makes_two_concepts_meet_only_where_both_scripts_are_listed() -> None:
    owners: dict[str, set[str]] = {}
    for row in CONCEPTS:
        for name in japanese_names(row):
            owners.setdefault(fold_kana(normalise(name).lower()), set()).add(row["english"])
    assert {name for name, concepts in owners.items() if len(concepts) > 1} == {"くも"}


def test_no_word_of_the_grammar_means_two_things_in_english() -> None:
    owners: dict[str, set[str]] = {}
    for section in ("colour", "count", "numeral", "position", "scene", "style"):
        for row in GRAMMAR[section]:
            for word in row["japanese"]:
                owners.setdefault(fold_kana(normalise(word).lower()), set()).add(row["english"])
    assert {word: meanings for word, meanings in owners.items() if len(meanings) > 1} == {}


@pytest.mark.parametrize("row", CONCEPTS, ids=lambda row: row["english"])
def test_every_name_of_a_concept_translates_to_it(row: dict[str, str]) -> None:
    for name in (*japanese_names(row), row["glyph"]):
        if not name.isascii():  # Latin letters alone are English and stay as they are
            assert _understood(name) == _a(row["english"]), name
        assert _understood(f"{name}を描いてください") == _a(row["english"]), name
        assert _understood(f"3つの{name}") == f"three {row['plural']}", name


@pytest.mark.parametrize("colour", GRAMMAR["colour"], ids=lambda colour: colour["english"])
def test_every_colour_goes_with_every_concept_and_with_the_background(colour: dict[str, list[str]]) -> None:
    english = str(colour["english"])
    for row in CONCEPTS:
        name = japanese_names(row)[0]
        spelling = colour["japanese"][0]
        coloured = row["english"] if row["english"].startswith(f"{english} ") else f"{english} {row['english']}"
        assert _understood(f"{spelling}の{name}") == _a(coloured), name
        wanted = f"{_a(row['english'])} on {_a(english)} background"
        assert _understood(f"{spelling}の背景に{name}") == wanted, name
    for spelling in (*colour["japanese"], *colour.get("nearest", [])):
        assert _understood(f"{spelling}背景の猫") == f"a cat on {_a(english)} background"
        joined = spelling if spelling.endswith(("い", "な")) else f"{spelling}の"
        assert _understood(f"{joined}ロボット") == _a(f"{english} robot")


def test_a_look_or_activity_beside_who_has_it_and_a_material_beside_a_thing_are_no_second_thing() -> None:
    looks = [japanese_names(row)[0] for row in CONCEPTS if row["english"] in OWN["looks"]]
    assert len(looks) == len(OWN["looks"])
    described = {f"{look}の女の子": "a girl" for look in looks}
    described |= {f"女の子の{look}": "a girl" for look in looks}
    described |= {f"{activity}をしている犬": "a dog" for activity in OWN["activities"]}
    described |= {f"{material}の城": "a castle" for material in OWN["materials"]}
    for japanese, english in described.items():
        translation = TRANSLATOR.translate(japanese)
        assert (translation.english, len(translation.unknown_words)) == (english, 1), japanese


def test_a_colour_is_drawn_on_what_takes_any_colour_or_has_it() -> None:
    spelling_of = {colour["english"]: colour["japanese"][0] for colour in GRAMMAR["colour"]}
    for row in CONCEPTS:
        for colour in {"blue", "red", "green", row["colour"]} - {""}:
            is_other = f"{colour} {row['english']}" in {other["english"] for other in CONCEPTS}  # green apple
            is_drawn = is_other or row["tint"] == "yes" or row["colour"] == colour
            not_drawn = TRANSLATOR.translate(f"{spelling_of[colour]}の{japanese_names(row)[0]}").not_drawn
            assert not_drawn == (() if is_drawn else (spelling_of[colour],)), (row["english"], colour)


@pytest.mark.parametrize("section", ["scene", "style"])
def test_every_spelling_of_a_scene_or_style_is_understood(section: str) -> None:
    for row in GRAMMAR[section]:
        mark = "" if section == "scene" else ","
        for spelling in row["japanese"]:
            assert _understood(f"猫、{spelling}") == f"a cat{mark} {row['english']}", spelling


def test_every_position_relates_two_things() -> None:
    for row in GRAMMAR["position"]:
        for spelling in row["japanese"]:
            if spelling.endswith(("端", "はし")) or spelling.startswith("向かって"):
                continue  # sides of the picture, not of a thing
            assert _understood(f"家の{spelling}に犬") == f"a dog {row['english']} a house", spelling


@pytest.mark.parametrize(
    "text",
    ["a red apple on a blue background", "  A cat!\n", "naïve café, 3 dogs", "ａ ｃａｔ", 'TWO Dogs & 1 UFO: "Wow"?'],
)
def test_english_passes_through_unchanged(text: str) -> None:
    assert TRANSLATOR.translate(text) == Translation(source=text, english=text, translator="offline")


@pytest.mark.parametrize(
    "text", ["a red 사과", "a café", "3 red apples", "ａ ｒｅｄ ａｐｐｌｅ", "cafe\u0301", "a\u200bcat", "I ❤ 🐱"]
)
def test_latin_letters_without_japanese_are_english(text: str) -> None:
    assert TRANSLATOR.translate(text) == Translation(source=text, english=text, translator="offline")


@pytest.mark.parametrize("text", ["사과", "яблоко", "𩸽", "苹果", "تفاحة", "μ", "\ue000", "𰻝"])
def test_words_of_other_scripts_are_unknown_and_not_english(text: str) -> None:
    translation = TRANSLATOR.translate(text)
    assert (translation.english, translation.unknown_words) == ("", (text,))


def test_no_invisible_character_comes_between_a_word_and_its_meaning() -> None:
    invisible = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cf"]
    invisible += ["\u034f", "\u115f", "\u1160", "\u180b", "\u180f", "\u3164", "\uffa0", "\ufe0f", "\U000e0101"]
    assert len(invisible) > 100
    for char in invisible:
        translation = TRANSLATOR.translate(f"赤{char}い{char}り{char}んご{char}とヌー{char}トリア")
        assert (translation.english, translation.unknown_words) == ("a red apple", ("ヌートリア",)), (
            f"U+{ord(char):04X}"
        )


def test_a_dash_of_any_kind_is_the_mark_of_a_long_vowel() -> None:
    for dash in "-－ｰー‐‑‒–—―−─━⎯⁃˗﹣⁻₋゠〜～~∼〰➖一":
        assert _understood(f"ケ{dash}キとサッカ{dash}ボ{dash}ル") == "a cake and a soccer ball", f"U+{ord(dash):04X}"


def test_a_caption_passes_through_unchanged() -> None:
    for row in SENTENCES:
        if row["english"]:
            translation = TRANSLATOR.translate(row["english"])
            assert (translation.english, translation.unknown_words) == (row["english"], ())


@pytest.mark.parametrize("text", ["", "   ", "\n", "。、！", "描いてください"])
def test_a_text_that_says_nothing_gives_nothing(text: str) -> None:
    translation = TRANSLATOR.translate(text)
    assert (translation.english, translation.unknown_words) == ("", ())


def _mixtures(count: int) -> list[str]:
    """Random rows of real words, kana and signs, without much sense."""
    random_source = random.Random(0)
    names = [name for row in CONCEPTS for name in japanese_names(row)]
    sections = ("colour", "scene", "style", "position")
    words = [word for section in sections for row in GRAMMAR[section] for word in row["japanese"]]
    odd = [
        "走る",
        "ぬいぐるみ",
        "大きい",
        "一",
        "3",
        "匹",
        "二匹",
        "ー",
        "テーブル",
        "鬱",
        "w",
        "❤",
        "🫠",
        "\u3000",
        "、",
        "本",
        *("red", "apple", "logo", "사과", "яблоко", "x3", "×2", "5", " 12", "2〜3匹", "1.5個", "りんgお", "ヌートリア"),
        *(
            "する",
            "その左",
            "クロネコ",
            "抹茶アイス",
            "お月見うさぎ",
            "雲のない",
            "①",
            "」",
            "の絵",
            "ペンギソ",
            "\ue000",
        ),
    ]
    pools = [names, words, GRAMMAR["translator"]["particles"], GRAMMAR["translator"]["fillers"], odd]
    return ["".join(random_source.choice(random_source.choice(pools)) for _ in range(7)) for _ in range(count)]


def test_tokens_cover_every_character() -> None:
    for text in map(normalise, [*_mixtures(400), *(row["japanese"] for row in SENTENCES)]):
        assert "".join(token.surface for token in segment(text, LEXICON)) == text


def test_nothing_is_silently_dropped() -> None:
    silent = {Kind.PARTICLE, Kind.FILLER, Kind.DECORATION, Kind.PREFIX, Kind.NOUN_SUFFIX, Kind.BREAK, Kind.SPACE}
    for text in map(normalise, [*_mixtures(400), *(row["japanese"] for row in SENTENCES)]):
        tokens = segment(text, LEXICON)
        graph = read_scene_graph(tokens, LEXICON)
        reported = {place for start, end in graph.unknown_spans for place in range(start, end)}
        expressed = [t.colour for t in graph.things if t.colour] + [graph.background] * bool(graph.background)
        positions = {relation.position for relation in graph.relations}
        expressed += [*positions, *(OPPOSITE[position] for position in positions)]  # 左に犬、右に猫 is one relation
        expressed += ["number" for t in graph.things if t.number_span]
        for token in tokens:
            meanings = {m.kind for m in token.meanings}
            if meanings & silent or token.start in reported or Kind.BACKGROUND in meanings:
                continue
            if token.kind in (Kind.SCENE, Kind.STYLE):
                if token.span == graph.background_span:
                    continue  # 雲のない青空: the sky without its clouds
                assert token.value in {*graph.scenes, *graph.styles}, (text, token)
            elif token.kind is Kind.NOUN and token.value in [thing.noun for thing in graph.things]:
                continue
            elif token.kind is Kind.NUMBER:
                expressed.remove("number")
            else:
                values = {m.value for m in token.meanings if m.kind in (Kind.COLOUR, Kind.POSITION)}
                assert values & set(expressed), (text, token)


def test_any_characters_are_translated_without_an_error() -> None:
    random_source = random.Random(0)
    likely = [
        *map(chr, range(0x3041, 0x30FF)),
        *"猫犬赤青背景三匹左右上下の夜海なし以外🐱❤\ufe0f\u200d、。 \n\t3３ｱﾞaＡ\u0301\x00",
    ]
    for _ in range(1000):
        any_character = chr(
            random_source.choice([random_source.randrange(0xD800), random_source.randrange(0xE000, 0x20000)])
        )
        text = "".join(random_source.choice([*likely, any_character]) for _ in range(random_source.randrange(40)))
        assert TRANSLATOR.translate(text).source == text


def test_a_very_long_text_is_translated_in_time_that_grows_with_its_length() -> None:
    for word in ("いる", "いぬ", "猫と", "ぬいぐるみ", "赤い", "家の左に", "猫🍎"):
        assert TRANSLATOR.translate(word * (1000 // len(word))).source


@pytest.mark.parametrize(
    "spoil", ["no grammar", "an older grammar", "a broken grammar", "no table", "a short row", "a long field"]
)
def test_data_files_that_cannot_be_read_are_told_with_what_to_do(tmp_path: Path, spoil: str) -> None:
    for name in ("concepts.tsv", "grammar.toml"):
        (tmp_path / name).write_bytes((DEFAULT_DATA_DIR / name).read_bytes())
    grammar = tmp_path / "grammar.toml"
    if spoil == "no grammar":
        grammar.unlink()
    elif spoil == "an older grammar":
        grammar.write_text(grammar.read_text(encoding="utf-8").replace("[limits]", "[other]"), encoding="utf-8")
    elif spoil == "a broken grammar":
        grammar.write_text("[[colour", encoding="utf-8")
    elif spoil == "no table":
        (tmp_path / "concepts.tsv").unlink()
    else:
        with (tmp_path / "concepts.tsv").open("a", encoding="utf-8") as table:
            table.write("🐉\tdragon\n" if spoil == "a short row" else f"🐉\tdragon\tdragons\t\t\t{'竜' * 131073}\n")
    with pytest.raises(TranslatorMisconfigured, match=r"export the model again"):
        OfflineTranslator(tmp_path).translate("赤いりんご")


def test_the_grammar_of_a_model_that_was_exported_earlier_is_understood(tmp_path: Path) -> None:
    grammar = (DEFAULT_DATA_DIR / "grammar.toml").read_text(encoding="utf-8")
    assert "[[translator.sense]]" in grammar
    earlier = grammar.replace("[[translator.sense]]", "[[translator.reading]]")
    earlier = re.sub(r"(?ms)^(looks|activities|materials) = .*?^\]$", "", earlier)
    assert "looks" not in tomllib.loads(earlier)["translator"]
    (tmp_path / "grammar.toml").write_text(earlier, encoding="utf-8")
    (tmp_path / "concepts.tsv").write_bytes((DEFAULT_DATA_DIR / "concepts.tsv").read_bytes())
    assert OfflineTranslator(tmp_path).translate("あめをなめる").english == "a candy"
