from typing import Any

import pytest
import streamlit as st

from frontend_streamlit.clients.backend import JobRequest
from frontend_streamlit.state.draft import StoredDraft, read_draft
from frontend_streamlit.state.form import Fields, Form
from frontend_streamlit.state.session import Session
from frontend_streamlit.state.waiting import Pending, read_waiting
from frontend_streamlit.translation import Translation
from frontend_streamlit.translation.offline import OfflineTranslator

ME, OTHER = "m" * 32, "o" * 32
CHOICES: dict[str, Any] = {"n": 2, "seed": None, "steps": 20}
PENDING = Pending(JobRequest(prompt="a red apple", source_prompt="赤いりんご", owner=ME, **CHOICES))
DRAFT = StoredDraft(
    fields=Fields(prompt="赤いりんご", english="a red apple", quality=None, stage_steps={"base": 33}),
    translation=Translation(
        source="赤いりんごと星", english="a red apple", translator="offline", unknown_words=("星",)
    ),
    model="kotoe-mini",
)


def stored(**changes: Any) -> dict[str, Any]:
    waiting = {PENDING.key: PENDING.request.model_dump() | {"owner": ""}}
    return {"draft": DRAFT.model_dump(mode="json"), "waiting": waiting} | changes


def test_a_draft_comes_back() -> None:
    assert read_draft(stored()) == DRAFT


def test_what_was_typed_after_the_page_last_heard_of_it_comes_back_too() -> None:
    draft = read_draft(stored(typed={"prompt": "黒い猫"}))
    assert draft is not None
    assert (draft.fields.prompt, draft.fields.english, draft.model) == ("黒い猫", "a red apple", "kotoe-mini")
    assert read_draft({"typed": {"english": "a cat"}}) == StoredDraft(fields=Fields(english="a cat"))
    assert read_draft(stored(typed={"prompt": 1})) == read_draft(stored(typed=None)) == DRAFT


def test_a_draft_from_before_stages_had_names_comes_back_without_its_steps() -> None:
    document = stored()
    del document["draft"]["fields"]["stage_steps"]
    document["draft"]["fields"] |= {"steps": 33, "upsample_steps": 7}
    draft = read_draft(document)
    assert draft is not None
    assert draft.fields == DRAFT.fields.model_copy(update={"stage_steps": {}})


def test_what_waits_comes_back_in_the_name_of_whoever_visits() -> None:
    assert read_waiting(stored(), ME) == [PENDING]
    assert read_waiting(stored(waiting={PENDING.key: PENDING.request.model_dump()}), OTHER)[0].request.owner == OTHER


def test_every_request_has_a_key_of_its_own() -> None:
    assert Pending(PENDING.request).key != PENDING.key


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 9},
        {"stage_steps": {"base": "many"}},
        {"seed": -1},
        {"seed_mode": "x"},
        {"sampler": None},
        {"prompt": "x" * 1001},
        {"prompt": 1},
    ],
    ids=str,
)
def test_a_draft_that_could_not_be_entered_is_none(changes: dict[str, Any]) -> None:
    document = stored()
    document["draft"]["fields"] |= changes
    assert read_draft(document) is None
    assert read_waiting(document, ME) == [PENDING]


@pytest.mark.parametrize(
    "document", [None, "", [], {}, {"draft": None, "waiting": None}, {"draft": 1, "typed": 1, "waiting": {"a": 1}}]
)
def test_anything_else_is_nothing(document: object) -> None:
    assert read_draft(document) is None
    assert read_waiting(document, ME) == []


def test_the_typed_form_has_every_field_that_is_stored() -> None:
    keys = {entry.key for entry in vars(Form).values() if hasattr(entry, "key")}
    assert keys >= Fields.model_fields.keys() - {"stage_steps"}


def test_what_comes_back_survives_a_run_that_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, Any] = {}
    monkeypatch.setattr(st, "session_state", state)
    session = Session(owner="o" * 32)
    session.form.begin()
    fields = Fields(prompt="りんご", english="an apple", stage_steps={"base": 250}, count=3)
    draft = StoredDraft(fields=fields, model="kotoe-mini")
    session.take_stored({"draft": draft.model_dump(mode="json")}, OfflineTranslator())
    assert (state["steps_base"], session.form.count, session.form.english) == (250, 3, "an apple")
    del state["steps_base"]  # forgotten by Streamlit
    session.form.count = 5  # changed by the user
    session.form.restore()
    assert (state["steps_base"], session.form.count) == (250, 5)
