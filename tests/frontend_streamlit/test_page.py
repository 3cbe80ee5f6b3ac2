"""What a visitor sees and does, state by state; Streamlit runs the script, the backend is a fake one on a socket."""

import base64
import io
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState

from frontend_streamlit.clients import backend as backend_client
from frontend_streamlit.clients import identity
from frontend_streamlit.clients.backend import ERROR_OF, BackendBroken, BackendClient, BackendUnavailable
from frontend_streamlit.clients.gallery import GalleryUnavailable
from frontend_streamlit.page.settings_form import QUALITIES, STEPS
from frontend_streamlit.settings import Settings, TranslatorName
from frontend_streamlit.texts.english import ENGLISH
from frontend_streamlit.texts.japanese import JAPANESE
from frontend_streamlit.translation import Translation, TranslationError, TranslationUnavailable
from frontend_streamlit.translation.choose import choose_translator
from tests.frontend_streamlit.fake_backend import CUT, MINI, ODD, OPEN, PIXEL, SMALL, Answer, FakeBackend, job_document
from tests.frontend_streamlit.page import ME, OTHER, Page
from tests.frontend_streamlit.pictures import png_of

APPLE, ENGLISH_APPLE = "青い背景に赤いりんご", "a red apple on a blue background"


@dataclass
class FakeTranslator:
    """Writes what it was told to, or raises it."""

    name: str = "google"
    is_closed_vocabulary: bool = False
    answer: str | Exception = "a red apple"
    asked: list[str] = field(default_factory=list)

    def translate(self, text: str) -> Translation:
        self.asked.append(text)
        if isinstance(self.answer, Exception):
            raise self.answer
        return Translation(source=text, english=self.answer, translator=self.name)


def submitted(backend: FakeBackend) -> list[dict[str, Any]]:
    return [body for _, _, _, body in backend.asked("POST", "/v1/jobs")]


# Writing


def test_a_new_visitor_sees_an_empty_page_in_japanese_and_gets_a_link_of_their_own(page: Page) -> None:
    page.link = {}
    page.open()
    assert page.app.title[0].value == "言絵"
    assert (page.prompt, page.english) == ("", "")
    assert JAPANESE.no_jobs in page.words
    assert JAPANESE.private_link in page.words
    assert identity.owner_in_link(page.link["u"]) == page.link["u"]


def test_a_refresh_keeps_the_owner(page: Page) -> None:
    page.link = {}
    owner = page.open().link["u"]
    assert page.open().link["u"] == owner
    page.link = {}
    assert page.open().link["u"] != owner


def test_the_translation_appears_with_the_name_of_its_translator(page: Page) -> None:
    page.open().write(APPLE)
    assert page.english == ENGLISH_APPLE
    assert JAPANESE.translated_by["offline"] in page.words


def test_a_prompt_of_whose_change_streamlit_does_not_tell_is_translated_too(page: Page) -> None:
    page.open().app.session_state["prompt"] = APPLE
    assert page.run().english == ENGLISH_APPLE


def test_english_that_was_emptied_is_the_translation_again(page: Page) -> None:
    page.open().write(APPLE).write_english(" ")
    assert page.english == ENGLISH_APPLE


def test_english_is_not_translated(page: Page) -> None:
    page.open().write("a cat")
    assert page.english == "a cat"
    assert JAPANESE.translated_by["english"] in page.words


def test_an_example_fills_both_fields_and_draws(page: Page, backend: FakeBackend) -> None:
    page.open().press("example_0")
    assert page.prompt == MINI["examples"][0]["ja"]
    assert page.english == ENGLISH_APPLE
    page.press("draw")
    assert submitted(backend)[0]["source_prompt"] == MINI["examples"][0]["ja"]


@pytest.mark.parametrize(("translator", "language"), [("offline", "en"), ("google", "ja")])
def test_examples_suit_the_model_in_use_and_who_translates_for_it(
    page: Page, backend: FakeBackend, translator: TranslatorName, language: str
) -> None:
    backend.run(OPEN)
    page.change(translator=choose_translator(Settings(translator=translator)))
    labels = [button.label for button in page.open().app.button if str(button.key).startswith("example_")]
    assert labels == [example[language] for example in OPEN["examples"]]


def test_words_that_were_not_understood_are_named(page: Page) -> None:
    page.open().write("赤いりんごとヌートリア")
    assert page.english == "a red apple"
    assert JAPANESE.unknown_words.format("ヌートリア") in page.words


def test_words_that_the_model_cannot_draw_are_named(page: Page) -> None:
    page.open().write("赤い自転車")
    assert page.english == "a red bicycle"
    assert JAPANESE.not_drawn.format("赤い") in page.words


def test_what_the_mini_model_cannot_draw_is_not_said_of_another_model(page: Page, backend: FakeBackend) -> None:
    backend.run(OPEN)
    page.open().write("赤い自転車")
    assert page.english == "a red bicycle"
    assert JAPANESE.not_drawn.format("赤い") not in page.words


def notices(page: Page) -> list[str]:
    return [element.value for kind in (page.app.info, page.app.warning, page.app.error) for element in kind]


def test_the_word_that_was_probably_meant_is_shown_with_the_one_that_was_not_understood(page: Page) -> None:
    page.open().write("赤いりんごとペンギソ")
    sentences = (JAPANESE.unknown_words.format("ペンギソ"), JAPANESE.suggestion.format("ペンギソ", "ペンギン"))
    assert notices(page) == [" ".join(sentences)]


@pytest.mark.parametrize(
    ("prompt", "sentences"),
    [
        ("らりるれろ", [JAPANESE.unknown_words.format("らりるれろ")]),
        ("金魚", [JAPANESE.unknown_words.format("金魚")]),
        ("사과", [JAPANESE.unknown_words.format("사과")]),
        ("ペンギソ", [JAPANESE.unknown_words.format("ペンギソ"), JAPANESE.suggestion.format("ペンギソ", "ペンギン")]),
        ("。", [JAPANESE.nothing_understood]),
    ],
)
def test_a_prompt_of_which_nothing_was_understood_gets_one_notice_that_says_what_to_do(
    page: Page, backend: FakeBackend, prompt: str, sentences: list[str]
) -> None:
    page.open().write(prompt)
    assert notices(page) == [" ".join(sentences)]
    page.press("draw")
    assert notices(page) == [" ".join(sentences)]
    assert not submitted(backend)
    assert page.prompt == prompt


def test_drawing_nothing_asks_for_words(page: Page, backend: FakeBackend) -> None:
    page.open().press("draw")
    assert JAPANESE.nothing_to_draw in page.words
    assert not submitted(backend)
    assert JAPANESE.nothing_to_draw not in page.write(APPLE).words


def test_english_that_was_edited_survives_every_rerun(page: Page, backend: FakeBackend) -> None:
    page.open().write(APPLE).write_english("a blue apple")
    assert JAPANESE.translated_by["edited"] in page.words
    page.run().press("switch_language").press("switch_language")
    page.go_to("gallery").go_to("draw")
    assert page.english == "a blue apple"
    page.press("draw")
    assert page.english == "a blue apple"
    assert (submitted(backend)[0]["prompt"], submitted(backend)[0]["translator"]) == ("a blue apple", "edited")


def test_changed_japanese_beside_edited_english_offers_a_new_translation(page: Page) -> None:
    page.open().write(APPLE).write_english("a blue apple").write("黒い猫")
    assert page.english == "a blue apple"
    assert JAPANESE.english_kept in page.words
    page.press("translate_again")
    assert page.english == "a black cat"
    assert JAPANESE.english_kept not in page.words


def test_changed_japanese_beside_english_as_translated_is_translated_at_once(page: Page) -> None:
    assert page.open().write(APPLE).write("黒い猫").english == "a black cat"
    assert page.write("").english == ""


def test_edits_can_be_taken_back(page: Page) -> None:
    page.open().write(APPLE).write_english("a blue apple").press("undo")
    assert page.english == ENGLISH_APPLE
    assert not page.has("undo")


def test_fields_are_kept_while_the_gallery_is_looked_at(page: Page) -> None:
    page.open().write(APPLE)
    page.app.number_input(key="count").set_value(3)
    page.app.slider(key="steps_base").set_value(33)
    page.run().go_to("gallery")
    page.app.text_input(key="search").set_value("apple")
    page.run().run().go_to("draw")
    assert (page.prompt, page.english) == (APPLE, ENGLISH_APPLE)
    assert (page.app.number_input(key="count").value, page.app.slider(key="steps_base").value) == (3, 33)
    assert page.go_to("gallery").app.text_input(key="search").value == "apple"


def test_a_refresh_keeps_words_and_settings(page: Page, backend: FakeBackend) -> None:
    page.open().write(APPLE).write_english("a blue apple")
    page.app.number_input(key="count").set_value(3)
    page.app.button_group(key="seed_mode").set_value("fixed")
    page.app.slider(key="steps_base").set_value(33)
    page.app.slider(key="guidance").set_value(4.5)
    page.app.selectbox(key="sampler").set_value("ddim")
    page.app.text_input(key="negative").set_value("a cat")
    page.run().app.number_input(key="seed").set_value(2**32 - 1)
    page.run().press("draw")
    page.open()
    assert (page.prompt, page.english) == (APPLE, "a blue apple")
    assert JAPANESE.translated_by["edited"] in page.words
    assert page.app.button_group(key="quality").value is None
    page.press("draw")
    first, second = submitted(backend)
    assert first == second
    page.press("undo")
    assert page.english == ENGLISH_APPLE


def test_what_came_back_and_was_shown_is_the_users_to_change(page: Page) -> None:
    page.open().app.slider(key="steps_base").set_value(33)
    page.run().open()
    assert page.app.slider(key="steps_base").value == 33
    page.app.slider(key="steps_base").set_value(20)  # as it was before
    assert page.run().app.slider(key="steps_base").value == 20


def test_words_that_were_still_being_typed_at_a_refresh_are_kept_and_translated(page: Page) -> None:
    page.open().write(APPLE)
    [stored] = page.stored.values()
    stored["typed"] = {"prompt": "黒い猫"}  # as browser_storage.js does at every key
    page.open()
    assert (page.prompt, page.english) == ("黒い猫", "a black cat")


def test_a_browser_whose_server_was_replaced_gets_back_what_it_was_typing(page: Page) -> None:
    page.open().write("黒い猫").write_english("a blue cat")
    [stored] = page.stored.values()
    stored["typed"] = {"prompt": "黒い猫と"}
    page.lose_server(prompt="黒い猫", english="a blue cat").run()  # as the server before was told
    assert (page.prompt, page.english) == ("黒い猫と", "a blue cat")
    assert JAPANESE.english_kept in page.words


def test_words_that_were_written_before_the_page_knew_of_a_draft_stay(page: Page) -> None:
    page.open().write("黒い猫")
    page.lose_server(prompt="白い犬").run()
    assert (page.prompt, page.english) == ("白い犬", "a white dog")


def test_what_a_browser_has_from_before_does_not_replace_what_came_back_in_the_gallery(page: Page) -> None:
    page.open().write("黒い猫")
    [stored] = page.stored.values()
    stored["typed"] = {"prompt": "黒い猫と"}
    stale = page.app.text_area(key="prompt").id
    page.lose_server(view="gallery").run()
    page.app.button_group(key="view").set_value("draw")
    page.send(WidgetState(id=stale, string_value="黒い猫"))
    assert page.prompt == "黒い猫と"


def test_another_owner_in_the_same_browser_sees_no_draft(page: Page) -> None:
    page.open().write(APPLE)
    page.link["u"] = OTHER
    assert page.open().prompt == ""
    page.link["u"] = ME
    assert page.open().prompt == APPLE


def test_nothing_private_stands_in_the_link(page: Page) -> None:
    page.open().draw()
    assert set(page.link) == {"u"}
    assert ME not in str(page.stored)


def test_a_model_that_changed_meanwhile_gets_numbers_that_suit_it(page: Page, backend: FakeBackend) -> None:
    page.open().write("a cat").app.slider(key="steps_base").set_value(33)
    page.run()
    backend.run(OPEN)
    page.forget_status().open()
    assert page.prompt == "a cat"
    assert page.app.slider(key="steps_base").value == 20
    assert page.app.slider(key="steps_upsample").value == 10
    assert page.app.slider(key="guidance").value == 3.0


def test_numbers_of_a_model_that_was_replaced_meanwhile_are_left_to_the_one_that_draws(
    page: Page, backend: FakeBackend
) -> None:
    page.open().write(APPLE)
    page.app.text_input(key="negative").set_value("a cat")
    page.app.number_input(key="count").set_value(2)
    page.run()
    backend.run(SMALL)  # and nothing runs until the user draws
    page.forget_status().press("draw")
    assert not page.app.error
    [job] = backend.jobs
    common = {"prompt": ENGLISH_APPLE, "source_prompt": APPLE, "translator": "offline", "n": 2, "owner": ME}
    assert {name: job["request"][name] for name in common} == common
    assert submitted(backend)[-1] == common
    assert page.app.slider(key="steps_latent").value == 8
    page.press("draw")
    assert submitted(backend)[-1] == common | {"steps": 8, "sampler": "flow_euler", "model": "small"}


def test_a_picture_of_another_model_is_drawn_again_with_the_numbers_of_the_one_that_draws(
    page: Page, backend: FakeBackend
) -> None:
    backend.jobs = [job_document(1, "succeeded", request={"owner": ME})]
    backend.run(SMALL)
    page.open().press("again_")
    assert not page.app.error
    assert submitted(backend)[-1].keys().isdisjoint({"steps", "upsample_steps", "sampler", "guidance_scale", "seed"})


def test_a_draft_of_another_version_of_the_page_does_no_harm(page: Page) -> None:
    page.open().write(APPLE)
    [stored] = page.stored.values()
    stored["draft"]["fields"] |= {"sampler": "invented", "steps": 33, "upsample_steps": 7, "guidance": 99.0}
    page.open()
    assert page.prompt == APPLE
    assert (page.app.selectbox(key="sampler").value, page.app.slider(key="guidance").value) == ("dpmpp_2m", 20.0)
    assert (page.app.slider(key="steps_base").value, page.app.slider(key="steps_upsample").value) == (20, 4)
    stored["draft"]["fields"]["seed"] = "many"
    assert page.open().prompt == ""
    page.write("a cat")
    assert page.open().prompt == "a cat"


@pytest.mark.parametrize("is_known", [True, False], ids=["model known", "no model yet"])
def test_the_page_before_models_described_themselves_can_read_what_is_stored(
    page: Page, backend: FakeBackend, is_known: bool
) -> None:
    if not is_known:
        backend.answer_with(CUT)
    page.open().write(APPLE)
    [stored] = page.stored.values()
    fields = stored["draft"]["fields"]
    assert (fields["prompt"], fields["english"]) == (APPLE, ENGLISH_APPLE)
    assert not fields.keys() & {"steps", "upsample_steps"}  # which were numbers
    assert fields.get("sampler", "dpmpp_2m") in {"dpmpp_2m", "ddim", "ddpm"}
    assert 1.0 <= fields.get("guidance", 2.5) <= 20.0


def test_words_outside_the_models_vocabulary_are_named(page: Page) -> None:
    page.open().write_english("a red apple with a hat")
    assert JAPANESE.model_unknown_words.format("with、hat") in page.words


def test_a_style_that_the_model_does_not_draw_well_is_named(page: Page, backend: FakeBackend) -> None:
    backend.model["vocabulary"]["experimental"] = ["pixel art style", "black"]
    page.open().write("ドット絵のりんご")
    assert page.english == "an apple, pixel art style"
    assert JAPANESE.experimental.format("ドット絵") in page.words
    page.write_english("a blackbird")
    assert JAPANESE.experimental.format("黒") not in page.words


def test_the_model_says_what_it_can_draw(page: Page, backend: FakeBackend) -> None:
    known = ["apple", "red", "green", "on", "the", "grass", "pixel", "art", "style"]
    backend.model["vocabulary"] |= {
        "words": known,
        "experimental": ["pixel art style"],
        "untrained": ["green apple"],
    }
    words = page.open().words
    for line in ("**もの** りんご", "**色** 赤、緑", "**場所や時間** 草原", "**描き方** ドット絵（苦手）"):
        assert line in words.splitlines()
    assert "**Things** apple" in page.press("switch_language").words.splitlines()


def test_a_model_that_reads_any_english_has_no_such_list(page: Page, backend: FakeBackend) -> None:
    backend.run(OPEN)
    assert JAPANESE.drawable_help not in page.open().words


@pytest.mark.parametrize(
    ("model", "english", "is_warned"),
    [
        (OPEN, "an oil painting of a Woman, in red", True),
        (OPEN, "there is a woman.", True),
        (OPEN, "an oil painting of a cat", False),
        (MINI, "an oil painting of a woman, in red", False),
        (SMALL, "", True),  # whatever is written
    ],
)
def test_what_to_expect_of_a_model_is_said_where_the_english_has_one_of_its_words(
    page: Page, backend: FakeBackend, model: dict[str, Any], english: str, is_warned: bool
) -> None:
    backend.run(model)
    page.open().write_english(english)
    texts = [warning["text"]["ja"] for warning in model["warnings"]]
    assert [element.value for element in page.app.warning if element.value in texts] == texts * is_warned


# A model as data


def test_a_model_with_one_stage_gets_the_form_that_it_describes_and_its_request(
    page: Page, backend: FakeBackend
) -> None:
    backend.run(SMALL)
    app = page.open().write("a cat").app
    sliders = {slider.label: (slider.key, slider.min, slider.max, slider.value) for slider in app.slider}
    assert sliders == {STEPS.ja.format("本描き"): ("steps_latent", 1, 60, 8)}
    assert app.button_group(key="quality").options == ["quick", QUALITIES["standard"].ja]
    assert app.selectbox(key="sampler").options == ["flow_euler"]
    assert [field.key for field in app.text_input] == []  # nothing to stay away from
    app.slider(key="steps_latent").set_value(60)
    page.run().press("draw")
    assert submitted(backend) == [
        {
            "prompt": "a cat",
            "source_prompt": "a cat",
            "translator": "offline",
            "n": 1,
            "steps": 60,
            "sampler": "flow_euler",
            "model": "small",
            "owner": ME,
        }
    ]
    backend.jobs[0] |= {
        "status": "running",
        "progress": {"stage": "latent", "step": 3, "total_steps": 60, "fraction": 0.1},
    }
    assert "本描き 3/60" in page.run().words
    assert "paint 3/60" in page.press("switch_language").words


def test_a_model_with_words_of_its_own_and_much_to_choose_gets_the_form_that_it_describes(
    page: Page, backend: FakeBackend
) -> None:
    backend.run(ODD)
    app = page.open().app
    sliders = {slider.key: (slider.min, slider.max, slider.value) for slider in app.slider}
    assert sliders == {"steps_draft": (1, 250, 20), "steps_refine": (1, 250, 5), "guidance": (2.0, 7.3, 4.0)}
    assert (app.button_group(key="quality").options, app.button_group(key="quality").value) == (
        list(ODD["qualities"]),
        None,
    )
    assert app.selectbox(key="sampler").options == ODD["samplers"]
    assert "jade、ochre" in page.words.splitlines()
    assert JAPANESE.drawable_help not in page.words
    app.button_group(key="quality").set_value("quality 7")
    page.run().press("example_0")
    assert page.english == "jade"  # the offline translator has no Japanese word for it
    page.press("draw")
    choices = {"steps": 8, "upsample_steps": 8, "guidance_scale": 4.0, "sampler": "sampler_0"}
    assert submitted(backend)[0].items() >= choices.items()


def test_a_model_without_qualities_starts_with_its_own_steps(page: Page, backend: FakeBackend) -> None:
    backend.run(OPEN | {"qualities": {}})
    app = page.open().app
    assert [group.key for group in app.button_group] == ["view", "seed_mode"]
    assert (app.slider(key="steps_base").value, app.slider(key="steps_upsample").value) == (20, 10)


def test_a_stage_that_the_description_does_not_have_is_named_as_it_is(page: Page, backend: FakeBackend) -> None:
    progress = {"stage": "refine", "step": 3, "total_steps": 9, "fraction": 0.1}
    backend.jobs = [job_document(1, "running", request={"owner": ME}, progress=progress)]
    assert "refine 3/9" in page.open().words


def test_a_picture_of_a_model_with_one_stage_is_shown_and_used_again(
    page: Page, put: Callable[..., str], backend: FakeBackend
) -> None:
    backend.run(SMALL)
    put(ME, 1, steps=5, upsample_steps=None, guidance_scale=None, sampler="flow_euler")
    page.open().go_to("gallery").press("open_")
    assert "seed 7 · flow\\_euler 5" in page.words or "seed 7 · flow_euler 5" in page.words
    page.press("open_").press("use_").press("draw")
    assert submitted(backend)[0]["steps"] == 5
    assert not submitted(backend)[0].keys() & {"upsample_steps", "guidance_scale"}


def lay_description(root: Path, document: object) -> None:
    (root / ".model").mkdir(exist_ok=True)
    (root / ".model" / "description.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize("is_loading", [True, False])
def test_form_examples_and_vocabulary_are_there_while_the_backend_is_not(
    page: Page, backend: FakeBackend, tmp_path: Path, is_loading: bool
) -> None:
    lay_description(tmp_path, MINI)
    backend.status |= {"model": None, "device": None, "ready": False}
    if not is_loading:
        backend.answer_with(CUT)
    app = page.open().app
    assert (app.slider(key="steps_base").value, app.slider(key="steps_upsample").value) == (20, 4)
    assert "**色** 赤" in page.words
    page.press("example_0")
    assert page.english == ENGLISH_APPLE
    page.write_english("a red apple with a hat")
    assert JAPANESE.model_unknown_words.format("with、hat") in page.words


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        MINI | {"stages": []},
        MINI | {"qualities": {"fast": {"base": 1}}},
        MINI | {"samplers": "ddim"},
    ],
    ids=["missing", "list", "empty", "no stage", "half a quality", "no list"],
)
def test_without_a_description_the_page_takes_a_prompt_and_leaves_all_numbers_to_the_backend(
    page: Page, backend: FakeBackend, tmp_path: Path, document: object
) -> None:
    if document is not None:
        lay_description(tmp_path, document)
    backend.answer_with(Answer.of(document), "/v1/models")
    app = page.open().write(APPLE).app
    assert not app.slider
    assert not app.selectbox
    assert not page.has("example_")
    page.press("draw")
    assert not page.app.error
    assert submitted(backend) == [
        {
            "prompt": ENGLISH_APPLE,
            "source_prompt": APPLE,
            "translator": "offline",
            "n": 1,
            "owner": ME,
        }
    ]


def test_a_model_is_described_once_and_not_at_every_run(page: Page, backend: FakeBackend) -> None:
    page.open().write(APPLE).press("draw").run().open()
    assert len(backend.asked("GET", "/v1/models/")) == 1


def test_the_gallery_is_not_asked_for_the_model_at_every_run(
    page: Page, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[None] = []
    monkeypatch.setattr(page.clients.gallery, "description", lambda: reads.append(None))
    backend.answer_with(CUT)
    page.open().write(APPLE).go_to("gallery").open()
    assert len(reads) == 1


# Translators


@pytest.mark.parametrize("kind", TranslationError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_a_translator_that_fails_says_what_to_do_and_lets_english_be_typed(
    page: Page, backend: FakeBackend, kind: type[TranslationError]
) -> None:
    translator = FakeTranslator(answer=kind("Google's own words"))
    page.change(translator=translator)
    page.open().write(APPLE)
    assert JAPANESE.errors[kind] in page.words
    assert "Google's own words" not in page.words
    assert page.prompt == APPLE
    page.write_english("a red apple").press("draw")
    assert submitted(backend)[0] | {"prompt": "a red apple", "translator": "edited"} == submitted(backend)[0]
    translator.answer = "a crimson apple"
    page.press("retry_translation")
    assert page.english == "a crimson apple"


def test_a_failed_translation_does_not_leave_the_english_of_other_words(page: Page, backend: FakeBackend) -> None:
    translator = FakeTranslator()
    page.change(translator=translator)
    page.open().write("赤いりんご")
    translator.answer = TranslationUnavailable()
    page.write("黒い猫")
    assert page.english == ""
    page.press("draw")
    assert not submitted(backend)


@pytest.mark.parametrize("name", ["google", "local"])
def test_a_translator_without_its_settings_leaves_the_page_usable(
    page: Page, backend: FakeBackend, name: TranslatorName
) -> None:
    page.change(translator=choose_translator(Settings(translator=name)))
    page.open().write(APPLE)
    assert "英語を直接書けば描けます" in page.words
    page.write_english("a red apple").press("draw")
    assert submitted(backend)[0]["prompt"] == "a red apple"


def test_the_same_words_are_translated_once(page: Page) -> None:
    translator = FakeTranslator()
    page.change(translator=translator)
    page.open().write("赤いりんご").run().press("draw").go_to("gallery").go_to("draw")
    assert translator.asked == ["赤いりんご"]


# Settings


def test_all_settings_are_handed_in(page: Page, backend: FakeBackend) -> None:
    page.open().write(APPLE)
    page.app.number_input(key="count").set_value(3)
    page.app.button_group(key="seed_mode").set_value("fixed")
    page.app.slider(key="guidance").set_value(4.5)
    page.app.selectbox(key="sampler").set_value("ddim")
    page.app.text_input(key="negative").set_value("  a cat ")
    page.run()
    page.app.number_input(key="seed").set_value(2**32 - 1)
    page.run().press("draw")
    assert submitted(backend) == [
        {
            "prompt": ENGLISH_APPLE,
            "source_prompt": APPLE,
            "translator": "offline",
            "negative_prompt": "a cat",
            "n": 3,
            "seed": 2**32 - 1,
            "guidance_scale": 4.5,
            "steps": 20,
            "upsample_steps": 4,
            "sampler": "ddim",
            "model": "kotoe-mini",
            "owner": ME,
        }
    ]


def test_a_random_seed_is_left_to_the_backend(page: Page, backend: FakeBackend) -> None:
    page.open().draw()
    assert "seed" not in submitted(backend)[0]
    assert page.app.number_input(key="seed").disabled


def test_values_out_of_range_cant_be_entered(page: Page) -> None:
    app = page.open().app
    limits = {key: (app.number_input(key=key).min, app.number_input(key=key).max) for key in ("count", "seed")}
    limits |= {
        key: (app.slider(key=key).min, app.slider(key=key).max) for key in ("steps_base", "steps_upsample", "guidance")
    }
    assert limits == {
        "count": (1, 8),
        "seed": (0, 2**32 - 1),
        "steps_base": (1, 250),
        "steps_upsample": (1, 250),
        "guidance": (1, 20),
    }
    assert app.selectbox(key="sampler").options == ["dpmpp_2m", "ddim", "ddpm"]
    assert app.text_area(key="prompt").max_chars == app.text_area(key="english").max_chars == 1000


@pytest.mark.parametrize("model", [MINI, OPEN])
def test_a_quality_sets_the_numbers_that_suit_the_model(
    page: Page, backend: FakeBackend, model: dict[str, Any]
) -> None:
    backend.run(model)
    app = page.open().app
    for quality, steps in model["qualities"].items():
        app.button_group(key="quality").set_value(quality)
        page.run()
        assert {stage: app.slider(key=f"steps_{stage}").value for stage in steps} == steps


def test_numbers_of_ones_own_are_no_named_quality(page: Page) -> None:
    app = page.open().app
    app.slider(key="steps_base").set_value(21)
    page.run()
    assert app.button_group(key="quality").value is None
    app.slider(key="steps_base").set_value(50)
    app.slider(key="steps_upsample").set_value(8)
    page.run()
    assert app.button_group(key="quality").value == "high"


def test_numbers_of_ones_own_survive_a_backend_that_is_away_for_a_moment(page: Page, backend: FakeBackend) -> None:
    backend.run(OPEN)
    page.open().app.slider(key="steps_base").set_value(99)
    page.run()
    backend.answer_with(CUT, times=8)
    page.forget_status().run()
    page.forget_status().run()
    assert page.app.slider(key="steps_base").value == 99


# Handing in


def test_each_refusal_has_its_sentence_and_keeps_what_was_typed(page: Page, backend: FakeBackend) -> None:
    page.open().write(APPLE)
    for code, kind in ERROR_OF.items():
        backend.overrides.clear()
        backend.answer_with(Answer.error(400, code), "/v1/jobs", "POST")
        page.press("draw")
        assert [error.value for error in page.app.error] == [JAPANESE.errors[kind]]
        assert f"{code} happened" not in page.words
        assert (page.prompt, page.english) == (APPLE, ENGLISH_APPLE)
    backend.overrides.clear()
    page.press("draw")
    assert not page.app.error
    assert len(backend.jobs) == 1


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (CUT, BackendUnavailable),
        (Answer(502, b"Bad Gateway"), BackendUnavailable),
        (Answer.error(500, "internal_error"), BackendBroken),
        (Answer(200, b"hello"), BackendBroken),
    ],
    ids=["cut", "gateway", "internal", "garbage"],
)
def test_a_broken_backend_has_its_sentence(
    page: Page, backend: FakeBackend, trouble: Answer, kind: type[Exception]
) -> None:
    backend.answer_with(trouble, "/v1/jobs", "POST")
    page.open().draw()
    assert JAPANESE.errors[kind] in page.words
    assert (page.prompt, page.english) == (APPLE, ENGLISH_APPLE)


def test_a_limit_says_when_there_is_room_again(page: Page, backend: FakeBackend) -> None:
    backend.answer_with(Answer.error(429, "rate_limit_exceeded", Retry_After="40"), "/v1/jobs", "POST")
    assert "約40秒後に空きます。" in page.open().draw().words


def test_a_job_that_was_taken_is_told_and_shown(page: Page, backend: FakeBackend) -> None:
    page.open().draw()
    assert JAPANESE.submitted in page.words
    assert "順番待ち・1番目" in page.words
    assert [job["request"]["owner"] for job in backend.jobs] == [ME]


# Following


def test_a_running_job_shows_stage_steps_time_and_preview(page: Page, backend: FakeBackend) -> None:
    progress = {"stage": "base", "step": 12, "total_steps": 20, "fraction": 0.5}
    backend.jobs = [
        job_document(1, "running", request={"owner": ME}, progress=progress, preview=PIXEL, eta_seconds=95.0)
    ]
    page.open()
    assert "描いています・下描き 12/20・あと約2分" in page.words
    assert page.app.get("progress")[0].proto.value == 50
    assert page.images == [PIXEL]
    assert page.has("cancel_")


def test_a_job_is_found_again_by_the_link_alone(page: Page, backend: FakeBackend) -> None:
    page.open().draw()
    backend.jobs[0]["status"] = "running"
    assert "描いています" in page.open().words
    assert page.has(f"cancel_{backend.jobs[0]['id']}")


def test_a_request_that_nobody_can_read_is_not_sent_again(page: Page, backend: FakeBackend) -> None:
    error = {"message": "…", "type": "server_error", "param": None, "code": "unreadable_request"}
    backend.jobs = [job_document(1, "failed", request={"owner": ME}, error=error)]
    page.open()
    assert JAPANESE.failed["unreadable_request"] in page.words
    assert not page.has(f"again_{backend.jobs[0]['id']}")


def test_a_card_names_the_words_that_the_model_left_out(page: Page, backend: FakeBackend) -> None:
    backend.jobs = [job_document(1, "running", request={"owner": ME}, unknown_words=["want", "café"])]
    page.open()
    assert JAPANESE.left_out.format("want、café") in page.words


def test_several_jobs_have_a_card_each_newest_first(page: Page, backend: FakeBackend) -> None:
    page.open().draw("黒い猫").draw("白い犬")
    backend.jobs[1] |= {"status": "running", "position": None}
    page.run()
    cards = [text.value for text in page.app.markdown if "猫" in text.value or "犬" in text.value]
    assert cards == ["**白い犬**", "**黒い猫**"]
    assert len([button for button in page.app.button if str(button.key).startswith("cancel_")]) == 2


def test_a_job_is_cancelled(page: Page, backend: FakeBackend) -> None:
    page.open().draw().press("cancel_")
    assert backend.jobs[0]["status"] == "cancelled"
    assert JAPANESE.status["cancelled"] in page.run().words
    assert not page.has("cancel_")


def test_a_cancel_that_fails_is_told(page: Page, backend: FakeBackend) -> None:
    page.open().draw()
    backend.answer_with(CUT, f"/v1/jobs/{backend.jobs[0]['id']}/cancel", "POST")
    page.press("cancel_")
    assert JAPANESE.errors[BackendUnavailable] in page.words


@pytest.mark.parametrize("code", [*sorted(JAPANESE.failed.keys() - {"", "unreadable_request"}), "invented_tomorrow"])
def test_a_failed_job_says_why_and_can_be_tried_again_with_a_new_seed(
    page: Page, backend: FakeBackend, code: str
) -> None:
    error = {"message": "what happened", "type": "server_error", "param": None, "code": code}
    backend.jobs = [job_document(1, "failed", request={"owner": ME, "source_prompt": APPLE}, error=error)]
    page.open()
    assert JAPANESE.failed.get(code, JAPANESE.failed[""]) in page.words
    page.press("again_")
    assert submitted(backend)[0]["source_prompt"] == APPLE
    assert "seed" not in submitted(backend)[0]


def test_a_finished_job_shows_its_pictures_as_data_and_offers_them(page: Page, backend: FakeBackend) -> None:
    backend.png = png_of()
    backend.jobs = [job_document(1, "succeeded", request={"owner": ME, "n": 2})]
    page.open()
    assert page.images == [f"data:image/png;base64,{base64.b64encode(backend.png).decode()}"] * 2
    page.press(f"save_{backend.jobs[0]['id']}_1")
    assert page.saved == [("kotoe_00000000_1.png", backend.png)]
    page.run()
    assert not page.saved
    page.press("again_")
    assert submitted(backend)[0]["n"] == 2
    page.run()
    assert len(backend.asked("GET", "/v1/jobs/00000000000000000000000000000001/images/")) == 2  # once each


def test_a_picture_that_cant_be_fetched_is_told_and_not_remembered(page: Page, backend: FakeBackend) -> None:
    backend.jobs = [job_document(1, "succeeded", request={"owner": ME})]
    backend.answer_with(CUT, f"/v1/jobs/{backend.jobs[0]['id']}/images")
    assert JAPANESE.errors[BackendUnavailable] in page.open().words
    backend.overrides.clear()
    backend.png = png_of()
    assert len(page.run().images) == 1


def test_a_closed_card_stays_closed_and_live_ones_cant_be_closed(page: Page, backend: FakeBackend) -> None:
    backend.jobs = [
        job_document(2, "running", request={"owner": ME}),
        job_document(1, "cancelled", request={"owner": ME}),
    ]
    page.open().press("dismiss_")
    assert JAPANESE.status["cancelled"] not in page.run().words
    assert not page.has("dismiss_")
    assert page.has("cancel_")


def test_cards_of_long_ago_make_room(page: Page, backend: FakeBackend) -> None:
    backend.jobs = [
        job_document(2, "running", request={"owner": ME}, created_at=time.time() - 10**6),
        job_document(1, "cancelled", request={"owner": ME}, created_at=time.time() - 10**6),
    ]
    page.open()
    assert page.has("cancel_")
    assert JAPANESE.status["cancelled"] not in page.words


def test_what_was_typed_is_shown_as_it_is(page: Page, backend: FakeBackend) -> None:
    nasty = "<img src=x> **太字** [a](http://b) $x$ :smile: # `c`"
    backend.jobs = [job_document(1, "queued", request={"owner": ME, "source_prompt": nasty})]
    page.open()
    [card] = [text.value for text in page.app.markdown if "太字" in text.value]
    assert "<img" not in card
    for markup in ("**太字**", "[a](", "$x$", " :smile:", " # ", "`c`"):
        assert markup not in card[2:-2]


# Polling: how soon the page asks again by itself


@pytest.mark.parametrize(
    ("statuses", "interval_s"),
    [([], None), (["succeeded", "failed", "cancelled"], None), (["queued"], 1.0), (["succeeded", "running"], 1.0)],
)
def test_the_page_asks_again_only_while_a_job_is_live(
    page: Page, backend: FakeBackend, intervals: list[float | None], statuses: list[str], interval_s: float | None
) -> None:
    backend.png = png_of()
    backend.jobs = [job_document(number, status, request={"owner": ME}) for number, status in enumerate(statuses)]
    page.open()
    assert set(intervals) == {interval_s}
    assert len(backend.asked("GET", "/v1/jobs?")) == len(intervals)  # one for each run


def test_a_backend_that_is_away_is_asked_now_and_then(
    page: Page, backend: FakeBackend, intervals: list[float | None]
) -> None:
    backend.answer_with(CUT)
    page.open()
    assert set(intervals) == {5.0}
    backend.overrides.clear()
    page.run()
    assert intervals[-1] is None


@pytest.fixture
def intervals(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    import streamlit as st

    seen: list[float | None] = []
    fragment = st.fragment

    def watched(*arguments: Any, run_every: float | None = None, **options: Any) -> Any:
        if not arguments:  # dialogs are fragments too, and come with their function
            seen.append(run_every)
        return fragment(*arguments, run_every=run_every, **options)

    monkeypatch.setattr(st, "fragment", watched)
    return seen


# When the backend is away


def test_a_backend_that_is_away_leaves_a_page_that_translates_and_shows_the_gallery(
    page: Page, backend: FakeBackend, put: Callable[..., str]
) -> None:
    put(ME, 1)
    backend.answer_with(CUT)
    page.open().write(APPLE)
    assert page.english == ENGLISH_APPLE
    assert JAPANESE.errors[BackendUnavailable] in page.words
    assert len(page.go_to("gallery").images) == 1
    assert not page.app.error


def test_what_cant_be_handed_in_because_the_backend_is_away_is_told_once(page: Page, backend: FakeBackend) -> None:
    page.open().write(APPLE)
    backend.answer_with(CUT)
    page.press("draw")
    assert notices(page) == [JAPANESE.errors[BackendUnavailable]]


def test_a_model_that_is_being_loaded_is_told(page: Page, backend: FakeBackend) -> None:
    backend.status |= {"model": None, "device": None, "ready": False}
    assert JAPANESE.model_is_loading in page.open().words


def test_the_model_and_the_queue_are_told(page: Page, backend: FakeBackend) -> None:
    backend.status["queued_jobs"] = 3
    assert JAPANESE.backend_state.format("kotoe-mini", "cpu", 3) in page.open().words


# Gallery


@pytest.fixture
def put(tmp_path: Any) -> Callable[..., str]:
    from tests.frontend_streamlit.pictures import put_picture

    return lambda owner, number, **record: put_picture(tmp_path, owner, number, **record)


def test_an_empty_gallery_says_how_to_fill_it(page: Page) -> None:
    assert JAPANESE.no_pictures in page.open().go_to("gallery").words


def test_the_gallery_has_pages_newest_first(page: Page, put: Callable[..., str]) -> None:
    names = [put(ME, number) for number in range(14)]
    page.open().go_to("gallery")
    assert shown(page) == names[:1:-1]
    assert JAPANESE.page_of.format(1, 2, 14) in page.words
    page.press("older")
    assert shown(page) == names[1::-1]
    assert next(button for button in page.app.button if button.key == "older").disabled
    assert len(shown(page.press("newer"))) == 12


def shown(page: Page) -> list[str]:
    return [str(button.key).removeprefix("open_") for button in page.app.button if str(button.key).startswith("open_")]


def test_search_finds_japanese_and_english_and_starts_on_the_first_page(page: Page, put: Callable[..., str]) -> None:
    for number in range(13):
        put(ME, number)
    cat = put(ME, 99, prompt="a black cat", source_prompt="黒い猫")
    page.open().go_to("gallery").press("older")
    for words in ("猫", "CAT"):
        page.app.text_input(key="search").set_value(words)
        assert shown(page.run()) == [cat]
    page.app.text_input(key="search").set_value("[犬]")
    assert "合う絵はありません" in page.run().words


def test_a_gallery_that_cant_be_opened_says_so_and_can_be_tried_again(page: Page, put: Callable[..., str]) -> None:
    put(ME, 1)
    gallery, page.clients.gallery.root = page.clients.gallery.root, "invented://bucket"
    page.open().go_to("gallery")
    assert "ギャラリーを開けません" in page.words
    page.clients.gallery.root = gallery
    assert len(shown(page.press("retry_gallery"))) == 1


def test_a_picture_opens_large_with_how_it_was_made(page: Page, put: Callable[..., str]) -> None:
    put(ME, 1)
    page.open().go_to("gallery").press("open_")
    assert len(page.images) == 2
    assert "seed 7 · ddim 12+3 · guidance 3.5" in page.words


def test_a_picture_of_the_gallery_is_saved_under_its_name(page: Page, put: Callable[..., str]) -> None:
    name = put(ME, 1)
    page.open().go_to("gallery").press("open_")
    page.app.button(key=f"open_{name}").click()  # AppTest closes dialogs by itself
    assert page.press("get_").saved == [(name, png_of())]


def test_a_page_of_the_gallery_is_saved_as_a_zip_file(page: Page, put: Callable[..., str]) -> None:
    names = [put(ME, number) for number in range(13)]
    page.open().go_to("gallery").press("zip")
    [(name, content)] = page.saved
    assert name == "kotoe.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == names[:0:-1]
        assert archive.read(names[1]) == png_of()


def test_a_pictures_settings_are_used_again(page: Page, put: Callable[..., str], backend: FakeBackend) -> None:
    put(ME, 1, negative_prompt="a cat")
    page.open().go_to("gallery").press("open_").press("use_")
    assert (page.prompt, page.english) == (APPLE, ENGLISH_APPLE)
    page.press("draw")
    wanted = {"seed": 7, "steps": 12, "upsample_steps": 3, "sampler": "ddim", "guidance_scale": 3.5}
    assert (
        submitted(backend)[0] | wanted | {"negative_prompt": "a cat", "translator": "offline"} == submitted(backend)[0]
    )


def test_settings_that_this_page_does_not_offer_are_brought_into_range(
    page: Page, put: Callable[..., str], backend: FakeBackend
) -> None:
    put(ME, 1, upsample_steps=300, sampler="invented", guidance_scale=50, seed=2**40)
    page.open().go_to("gallery").press("open_").press("use_").press("draw")
    wanted = {"seed": 2**32 - 1, "upsample_steps": 250, "sampler": "dpmpp_2m", "guidance_scale": 20.0}
    assert submitted(backend)[0] | wanted == submitted(backend)[0]


def test_the_same_prompt_is_drawn_with_a_new_seed(page: Page, put: Callable[..., str], backend: FakeBackend) -> None:
    put(ME, 1)
    page.open().go_to("gallery").press("open_").press("again_")
    assert submitted(backend)[0]["source_prompt"] == APPLE
    assert "seed" not in submitted(backend)[0]
    assert "順番待ち" in page.words  # on the page's other part


def test_deleting_takes_a_second_click(page: Page, put: Callable[..., str]) -> None:
    name = put(ME, 1)
    page.open().go_to("gallery").press("open_").press("delete_")
    page.press("open_")
    assert JAPANESE.delete_question in page.words
    assert page.clients.gallery.names(ME) == [name]
    page.press("no_").press("open_")
    assert JAPANESE.delete_question not in page.words
    page.press("delete_").press("open_").press("yes_")
    assert page.clients.gallery.names(ME) == []
    assert JAPANESE.deleted in page.words


def test_a_picture_that_cant_be_deleted_stays_and_is_told(
    page: Page, put: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise GalleryUnavailable("no")

    put(ME, 1)
    monkeypatch.setattr(page.clients.gallery, "delete", fail)
    page.open().go_to("gallery").press("open_").press("delete_").press("open_").press("yes_")
    assert JAPANESE.errors[GalleryUnavailable] in page.words
    assert len(shown(page)) == 1


# Who


def test_nobody_sees_the_jobs_and_pictures_of_another(
    page: Page, backend: FakeBackend, put: Callable[..., str]
) -> None:
    mine = put(ME, 1)
    put(OTHER, 2)
    backend.png = png_of()
    backend.jobs = [
        job_document(2, "succeeded", request={"owner": OTHER, "source_prompt": "ひみつ"}),
        job_document(1, "running", request={"owner": ME}),
    ]
    page.open()
    assert "ひみつ" not in page.words
    assert not page.images
    assert shown(page.go_to("gallery")) == [mine]
    page.link["u"] = OTHER
    page.open()
    assert "ひみつ" in page.words
    assert not page.has("cancel_")


@pytest.mark.parametrize("trick", ["../m", "..", f"{OTHER}/../{ME}", "m", "*" * 40])
def test_a_link_that_names_no_owner_gets_a_new_one(page: Page, put: Callable[..., str], trick: str) -> None:
    put(ME, 1)
    page.link["u"] = trick
    page.open().go_to("gallery")
    assert page.link["u"] not in (trick, ME)
    assert not page.images


def test_another_link_in_the_same_visit_is_another_owner(page: Page) -> None:
    page.open().draw()
    page.app.query_params["u"] = OTHER
    page.run()
    assert not page.has("cancel_")


def iap(page: Page) -> None:
    page.change(settings=Settings(login="iap", iap_audience="/projects/1/global/backendServices/2"))


def test_behind_iap_a_visitor_without_a_signed_header_sees_nothing(
    page: Page, backend: FakeBackend, put: Callable[..., str]
) -> None:
    put(ME, 1)
    iap(page)
    page.open()
    assert page.words == JAPANESE.not_allowed
    assert not backend.requests


def test_behind_iap_the_account_is_the_owner_whatever_the_link_says(
    page: Page, backend: FakeBackend, put: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = identity.owner_of_account("issuer", "subject")
    monkeypatch.setattr(identity, "owner_of_iap", lambda *_: account)
    put(ME, 1)
    iap(page)
    page.open().draw()
    assert backend.jobs[0]["request"]["owner"] == account
    assert not page.go_to("gallery").images
    assert JAPANESE.private_link not in page.words


ACCOUNT: dict[str, Any] = {"is_logged_in": True, "iss": "https://accounts.google.com", "sub": "42"}


def test_with_oidc_a_visitor_has_to_sign_in_first(page: Page, backend: FakeBackend, put: Callable[..., str]) -> None:
    put(ME, 1)
    page.change(settings=Settings(login="oidc"))
    page.user = {"is_logged_in": False}
    page.open()
    assert [button.label for button in page.app.button] == [JAPANESE.sign_in]
    assert JAPANESE.sign_in_text in page.words
    assert not backend.requests


def test_with_oidc_the_account_is_the_owner_and_can_sign_out(page: Page, backend: FakeBackend) -> None:
    page.change(settings=Settings(login="oidc"))
    page.user = ACCOUNT
    page.open().draw()
    owner = identity.owner_of_account(ACCOUNT["iss"], ACCOUNT["sub"])
    assert backend.jobs[0]["request"]["owner"] == owner
    assert page.has("sign_out")
    page.user = ACCOUNT | {"sub": "43"}
    assert not page.open().has("cancel_")


def test_with_oidc_an_account_that_is_not_on_the_list_sees_nothing(page: Page, backend: FakeBackend) -> None:
    page.change(settings=Settings(login="oidc", allowed_emails="anna@example.com"))
    page.user = ACCOUNT | {"email": "ben@example.com", "email_verified": True}
    page.open()
    assert [button.label for button in page.app.button] == [JAPANESE.sign_out]
    assert "このアカウント（ben@example" in page.words
    assert not backend.requests
    page.user |= {"email": "anna@example.com"}
    assert JAPANESE.tagline in page.open().words


# English, and unexpected errors


def test_the_switch_shows_everything_in_english_and_stays_in_the_link(page: Page, backend: FakeBackend) -> None:
    page.open().write(APPLE).press("switch_language")
    assert ENGLISH.tagline in page.words
    assert page.app.text_area(key="prompt").label == ENGLISH.prompt
    assert (page.prompt, page.english) == (APPLE, ENGLISH_APPLE)
    assert page.link["lang"] == "en"
    assert ENGLISH.tagline in page.open().words
    backend.answer_with(Answer.error(400, "queue_full"), "/v1/jobs", "POST")
    assert ENGLISH.errors[backend_client.QueueFull] in page.draw().words
    assert JAPANESE.tagline in page.press("switch_language").words


def test_a_surprise_in_a_widget_is_told_in_japanese_and_keeps_what_was_typed(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    page.change(translator=FakeTranslator(answer=RuntimeError("boom")))
    page.open().write(APPLE)
    assert page.has_unexpected_error()
    assert "boom" not in page.words
    assert page.prompt == APPLE
    assert "boom" in caplog.text
    assert not page.run().has_unexpected_error()


@pytest.mark.parametrize("method", ["read_status", "list_jobs"])
def test_a_surprise_while_drawing_the_page_is_told_in_japanese(
    page: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    def boom(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(BackendClient, method, boom)
    page.open()
    assert page.has_unexpected_error()
    assert "boom" not in page.words
    assert "boom" in caplog.text


def test_a_surprise_before_there_are_clients_is_told_in_japanese(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRONTEND_PORT", "no port")
    page.open()
    assert page.words == JAPANESE.unexpected_error
