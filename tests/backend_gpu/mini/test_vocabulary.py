import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend_gpu.errors import ConceptTableError
from backend_gpu.glide.tokenizer import WordTokenizer
from backend_gpu.mini.vocabulary import GRAMMAR, Concept, drawable_things, load_vocabulary
from backend_gpu.training.plan import FIRST_CONCEPTS, TEXT_CONTEXT
from backend_gpu.training.scenes import PAIR_POSITIONS, PLACES, Mix, Scene, glyph_image, mean_colour, random_scene
from frontend_streamlit.translation.offline import OfflineTranslator

VOCABULARY = load_vocabulary()
TRAINED = replace(VOCABULARY, concepts=VOCABULARY.concepts[:100])
TOKENIZER = WordTokenizer(VOCABULARY.words(), TEXT_CONTEXT)
EVEN_MIX = Mix(one=0.25, tinted=0.25, count=0.25, pair=0.25)


def longest_scene(concepts: tuple[Concept, ...]) -> Scene:
    """The scene that takes most words to tell."""
    first, second = sorted(concepts, key=lambda concept: TOKENIZER.count(concept.english))[-2:]
    return Scene(
        objects=(first, second),
        relation=max(VOCABULARY.positions, key=TOKENIZER.count),
        background=max(VOCABULARY.colours, key=TOKENIZER.count),
        style="pixel art style",
    )


def test_the_table_has_three_hundred_concepts_with_names_of_their_own() -> None:
    concepts = VOCABULARY.concepts
    assert len(concepts) >= 300
    for names in (
        {concept.glyph for concept in concepts},
        {concept.english for concept in concepts},
        {concept.plural for concept in concepts},
    ):
        assert "" not in names
        assert len(names) == len(concepts)


def test_a_plural_is_never_the_singular_of_another_concept() -> None:
    named = {concept.english: concept for concept in VOCABULARY.concepts}
    assert [c.plural for c in VOCABULARY.concepts if named.get(c.plural, c) is not c] == []


def test_the_own_colour_of_a_concept_is_one_that_the_grammar_knows() -> None:
    assert {concept.colour for concept in VOCABULARY.concepts} <= {"", *VOCABULARY.colours}
    for rgb in VOCABULARY.colours.values():
        assert len(rgb) == 3
        assert all(0 <= channel <= 255 for channel in rgb)


@pytest.mark.parametrize(("english", "colour"), [("apple", "red"), ("banana", "yellow"), ("frog", "green")])
def test_the_named_colour_is_the_strongest_channel_of_the_glyph(english: str, colour: str) -> None:
    concept = next(concept for concept in VOCABULARY.concepts if concept.english == english)
    assert concept.colour == colour
    strongest = np.argsort(mean_colour(concept))[::-1]
    assert set(strongest[: 2 if colour == "yellow" else 1]) == {"red": {0}, "yellow": {0, 1}, "green": {1}}[colour]


def test_every_glyph_has_a_picture_unlike_all_others() -> None:
    assert len({glyph_image(concept).tobytes() for concept in VOCABULARY.concepts}) == len(VOCABULARY.concepts)


def test_the_concepts_that_training_begins_with_have_some_to_tint() -> None:
    assert sum(concept.is_tintable for concept in VOCABULARY.concepts[:FIRST_CONCEPTS]) >= 2


def test_the_renderer_draws_every_scene_and_position_of_the_grammar() -> None:
    assert set(VOCABULARY.scenes) == set(PLACES)
    assert {*VOCABULARY.positions, "and"} == set(PAIR_POSITIONS)


def test_the_words_cover_every_caption_and_each_is_there_once() -> None:
    words = VOCABULARY.words()
    assert len(set(words)) == len(words)
    rng = random.Random(0)
    drawn = {word for _ in range(4000) for word in TOKENIZER.words(random_scene(VOCABULARY, EVEN_MIX, rng).caption())}
    assert drawn <= set(words)
    assert len(drawn) > 0.8 * len(words)  # the drawing turned through the table


def test_only_the_end_of_a_style_is_ever_cut_from_a_caption() -> None:
    longest = longest_scene(TRAINED.concepts)
    without_style = replace(longest, style="").caption()
    # What is cut must not be what tells one style from another: their first words do.
    first_words = {style.split()[0] for style in VOCABULARY.styles}
    assert len(first_words) == len(VOCABULARY.styles)
    assert TOKENIZER.count(f"{without_style}, pixel") <= TEXT_CONTEXT
    rng = random.Random(1)
    for _ in range(4000):
        caption = random_scene(TRAINED, EVEN_MIX, rng).caption()
        assert TOKENIZER.count(caption) <= TOKENIZER.count(longest.caption()), caption


@pytest.mark.parametrize("yes", ["yes", "Yes", "YES", " yes "])
@pytest.mark.parametrize("empty", ["", " "])
def test_yes_makes_a_concept_tintable(tmp_path: Path, yes: str, empty: str) -> None:
    rows = [
        "glyph\tenglish\tplural\tcolour\ttint\tjapanese",
        f'🐕\tdog\tdogs\t\t{yes}\t"犬',
        f"🍎\tapple\tapples\tred\t{empty}\t",
    ]
    table = tmp_path / "concepts.tsv"
    table.write_text("\n".join(rows), encoding="utf-8")
    assert load_vocabulary(table).concepts == (
        Concept("🐕", "dog", "dogs", colour="", is_tintable=True),
        Concept("🍎", "apple", "apples", colour="red", is_tintable=False),
    )


HEADER = "glyph\tenglish\tplural\tcolour\ttint\tjapanese"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "needs a first line with colour, english, glyph"),
        (["glyph\tenglish", "🐕\tdog"], "needs a first line"),
        ([HEADER, "🐕\tdog\tdogs"], "line 2: a column is missing"),
        ([HEADER, "🐕\tdog\tdogs\t\t\t犬", "🐈\tCat\tcats\t\t\t猫"], "line 3: english is 'Cat', must be lower-case"),
        ([HEADER, "🐕\tdog\tdogs\tmauve\t\t犬"], "line 2: the colour is 'mauve', must be empty or of red, blue"),
        ([HEADER, "🐕\tdog\tdogs\t\tmaybe\t犬"], "line 2: tint is 'maybe', must be yes, no or empty"),
        ([HEADER, "", "\t\t\t\t\t", "🐈\tcat"], "line 4: a column is missing"),
        ([HEADER, " ", "🐕\tDog\tdogs\t\t\t犬"], "line 3: english is 'Dog'"),
        ([HEADER, "🐕\tdog\tdogs\t\t\t" + "犬" * 131073], r"my\.tsv, line 2: field larger than field limit"),
        ([HEADER, *["🐕\tdog\tdogs\t\t\t犬"] * 2], "has a concept twice: dog"),
    ],
)
def test_a_table_that_cannot_be_learned_from_names_its_fault(tmp_path: Path, lines: list[str], message: str) -> None:
    table = tmp_path / "my.tsv"
    table.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConceptTableError, match=message):
        load_vocabulary(table)


@pytest.mark.parametrize("lines", [[], ["glyph\tenglish", "🐕\tdog"], [HEADER, "🐕\tdog\tdogs"]])
def test_nothing_can_be_drawn_of_a_table_that_is_none(tmp_path: Path, lines: list[str]) -> None:
    table = tmp_path / "my.tsv"
    table.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConceptTableError, match=r"needs a first line|a column is missing"):
        drawable_things(table)


def test_the_embedded_tables_say_what_can_be_drawn_in_both_languages() -> None:
    things = drawable_things()
    assert list(things) == ["concept", "colour", "scene", "style"]
    assert {kind: pairs[:2] for kind, pairs in things.items()} == {
        "concept": [("犬", "dog"), ("猫", "cat")],
        "colour": [("赤", "red"), ("青", "blue")],
        "scene": [("夜", "at night"), ("宇宙", "in space")],
        "style": [("ドット絵", "pixel art style"), ("白黒", "black and white")],
    }
    english = {kind: tuple(name for _, name in pairs) for kind, pairs in things.items()}
    assert english == {
        "concept": tuple(concept.english for concept in VOCABULARY.concepts),
        "colour": tuple(VOCABULARY.colours),
        "scene": VOCABULARY.scenes,
        "style": VOCABULARY.styles,
    }


def test_a_table_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ConceptTableError, match=r"can't read the concepts in .*my\.tsv: .*No such file"):
        load_vocabulary(tmp_path / "my.tsv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_tables_are_read_as_editors_and_spreadsheets_write_them(tmp_path: Path, encoding: str, line_end: str) -> None:
    lines = [HEADER, "🍎\tapple\tapples\tred\t\tりんご", "🐕\tdog\tdogs\t\tyes\t犬", ""]
    (tmp_path / "concepts.tsv").write_bytes(line_end.join(lines).encode(encoding))
    assert [concept.glyph for concept in load_vocabulary(tmp_path / "concepts.tsv").concepts] == ["🍎", "🐕"]
    (tmp_path / "grammar.toml").write_bytes(GRAMMAR.read_bytes())
    assert OfflineTranslator(tmp_path).translate("赤い犬とりんご").english == "a red dog and an apple"
    things = drawable_things(tmp_path / "concepts.tsv")
    assert things["concept"] == [("りんご", "apple"), ("犬", "dog")]


@pytest.mark.parametrize("encoding", ["utf-16", "cp932", "euc_jp"])
def test_a_table_in_another_encoding_is_told(tmp_path: Path, encoding: str) -> None:
    text = f"{HEADER}\r\ndog.png\tdog\tdogs\t\tyes\t犬\r\n"
    (tmp_path / "my.tsv").write_bytes(text.encode(encoding))
    with pytest.raises(ConceptTableError, match=r"my\.tsv is not in UTF-8: save it so, with tabs between"):
        load_vocabulary(tmp_path / "my.tsv")


def test_pictures_lie_beside_their_table(tmp_path: Path) -> None:
    (tmp_path / "my.tsv").write_text(f"{HEADER}\ndog.png\tdog\tdogs\t\t\t犬", encoding="utf-8")
    (dog,) = load_vocabulary(tmp_path / "my.tsv").concepts
    assert dog.glyph == str(tmp_path / "dog.png")


def test_blank_rows_spaces_and_any_comma_change_nothing(tmp_path: Path) -> None:
    rows = [
        HEADER,
        "",
        "🦖\tdinosaur\tdinosaurs\tgreen\t Yes\tきょうりゅう、 恐竜",
        "\t\t\t\t\t",
        "🐕\tdog\tdogs\t\tYES\t犬, ワンコ",
        "\t\t\t\t\t\t\t",
        "🐈\tcat\tcats\t\t\tにゃんこ， 猫 ",
        "🍎\tapple\tapples\tred\t\t",
        " ",
    ]
    (tmp_path / "concepts.tsv").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "grammar.toml").write_bytes(GRAMMAR.read_bytes())
    concepts = load_vocabulary(tmp_path / "concepts.tsv").concepts
    assert [(concept.english, concept.is_tintable) for concept in concepts] == [
        ("dinosaur", True),
        ("dog", True),
        ("cat", False),
        ("apple", False),
    ]
    said = {"赤い恐竜": "a red dinosaur", "青いワンコ": "a blue dog", "猫": "a cat"}
    for japanese, english in said.items():
        translation = OfflineTranslator(tmp_path).translate(japanese)
        assert (translation.english, translation.unknown_words, translation.not_drawn) == (english, (), ())
    things = drawable_things(tmp_path / "concepts.tsv")
    assert [japanese for japanese, _ in things["concept"]] == ["きょうりゅう", "犬", "にゃんこ", "apple"]
