from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from frontend_streamlit.clients.backend import JobRequest
from frontend_streamlit.state import session as session_module
from frontend_streamlit.state.draft import Draft, Fields, Pending, read_draft, read_waiting
from frontend_streamlit.translation import Translation
from frontend_streamlit.translation.offline import OfflineTranslator

ME, OTHER = "m" * 32, "o" * 32
PENDING = Pending(JobRequest(prompt="a red apple", source_prompt="赤いりんご", owner=ME, n=2, seed=None, steps=20))
DRAFT = Draft(
    fields=Fields(prompt="赤いりんご", english="a red apple", quality=None, steps=33),
    translation=Translation(
        source="赤いりんごと星", english="a red apple", translator="offline", unknown_words=("星",)
    ),
    model="kotoe-mini",
)


def kept(**changes: Any) -> dict[str, Any]:
    waiting = {PENDING.key: asdict(PENDING.request) | {"owner": ""}}
    return {"draft": DRAFT.model_dump(mode="json"), "waiting": waiting} | changes


def test_a_draft_comes_back() -> None:
    assert read_draft(kept()) == DRAFT


def test_what_was_typed_after_the_page_had_last_been_told_comes_back_too() -> None:
    draft = read_draft(kept(typed={"prompt": "黒い猫"}))
    assert draft is not None
    assert (draft.fields.prompt, draft.fields.english, draft.model) == ("黒い猫", "a red apple", "kotoe-mini")
    assert read_draft({"typed": {"english": "a cat"}}) == Draft(fields=Fields(english="a cat"))
    assert read_draft(kept(typed={"prompt": 1})) == read_draft(kept(typed=None)) == DRAFT


def test_what_waits_comes_back_in_the_name_of_whoever_visits() -> None:
    assert read_waiting(kept(), ME) == [PENDING]
    assert read_waiting(kept(waiting={PENDING.key: asdict(PENDING.request)}), OTHER)[0].request.owner == OTHER


def test_every_request_has_a_key_of_its_own() -> None:
    assert Pending(PENDING.request).key != PENDING.key


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 9},
        {"steps": 0},
        {"seed": -1},
        {"guidance": 99},
        {"sampler": "x"},
        {"prompt": "x" * 1001},
        {"prompt": 1},
    ],
    ids=str,
)
def test_a_draft_that_could_not_be_entered_is_none(changes: dict[str, Any]) -> None:
    document = kept()
    document["draft"]["fields"] |= changes
    assert read_draft(document) is None
    assert read_waiting(document, ME) == [PENDING]


@pytest.mark.parametrize(
    "document", [None, "", [], {}, {"draft": None, "waiting": None}, {"draft": 1, "typed": 1, "waiting": {"a": 1}}]
)
def test_anything_else_is_nothing(document: object) -> None:
    assert read_draft(document) is None
    assert read_waiting(document, ME) == []


class State(dict[str, Any]):
    """A session state without Streamlit."""

    def __getattr__(self, key: str) -> Any:
        return self[key]

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value


def test_what_comes_back_survives_a_run_that_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(Fields())
    monkeypatch.setattr(session_module, "st", SimpleNamespace(session_state=state))
    session = session_module.Session(owner="o" * 32)
    kept = Draft(fields=Fields(prompt="りんご", english="an apple", steps=250, count=3), model="kotoe-mini")
    session.take_kept({"draft": kept.model_dump(mode="json")}, OfflineTranslator())
    assert (state["steps"], state["count"], state["english"]) == (250, 3, "an apple")
    state |= {"steps": 20, "count": 5}  # one field forgotten by Streamlit, the other changed by the user
    session.restore()
    assert (state["steps"], state["count"]) == (250, 5)
