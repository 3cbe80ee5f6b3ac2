"""The page as its tests handle it: what a visitor does, and what they read."""

import base64
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2.bidi_component.main import _make_trigger_id
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest

from frontend_streamlit.clients import Clients
from frontend_streamlit.texts.japanese import JAPANESE

# What Streamlit's AppTest does not do: components of our own, and values of widgets that are not on the page. These two
# functions alone use private names of Streamlit, of the version that constraints.txt pins: another may break them.


def trigger(component_id: str, event: str, value: object) -> WidgetState:
    """What a browser sends when a component's script calls setTriggerValue."""
    sent = json.dumps([{"event": event, "value": value}])
    return WidgetState(id=_make_trigger_id(component_id, "events"), json_trigger_value=sent)


def run_with(app: AppTest, state: WidgetState) -> None:
    """Run the script with one more widget's state."""
    states = app._tree.get_widget_states()
    states.widgets.append(state)
    app._run(states)


APP = Path(__file__).parents[2] / "frontend_streamlit" / "app.py"
ME, OTHER = "m" * 32, "o" * 32


@dataclass
class Page:
    """One visit, of the owner `ME` unless the link is changed before the first run."""

    clients: Clients
    link: dict[str, str] = field(default_factory=lambda: {"u": ME})
    user: dict[str, Any] = field(default_factory=dict)  # signed in with OIDC
    stored: dict[str, Any] = field(default_factory=dict)  # in the browser, by owner
    app: AppTest = field(default_factory=lambda: AppTest.from_file(str(APP), default_timeout=20))

    def open(self) -> "Page":
        """Load the page, or load it anew: nothing is left of the visit but the link and what the browser stores."""
        self.app = AppTest.from_file(str(APP), default_timeout=20)
        self.app.query_params.update(self.link)
        self.app.user.update(self.user)
        return self.run()

    def lose_server(self, view: str = "draw", **fields: str) -> "Page":
        """Meet a new server: one run, interrupted before it learns what the browser stores; then these texts arrive."""
        self.app = AppTest.from_file(str(APP), default_timeout=20)
        self.app.query_params.update(self.link)
        self.app.session_state["view"] = view
        self.app.run()
        for key, words in fields.items():
            self.app.text_area(key=key).set_value(words)
        return self

    def run(self) -> "Page":
        """Let the script run; a traceback never reaches the page."""
        self.app.run()
        self.store()
        assert not self.app.exception
        values = self.app.query_params.items()  # a list if it came with the link, a word if the page has set it
        self.link = {name: value if isinstance(value, str) else value[0] for name, value in values}
        return self

    def store(self) -> None:
        """Do what browser_storage.js does."""
        for component in self.components("kotoe.storage"):
            data = json.loads(component.proto.json)
            stored = self.stored.setdefault(data["owner"], {})
            if data["is_known"]:
                waiting = stored.get("waiting", {}) | data["waiting"]
                stored["waiting"] = {key: request for key, request in waiting.items() if key not in data["done"]}
                stored |= {"draft": data["draft"], "typed": {}}
            else:
                self.send(trigger(component.proto.id, "stored", stored))

    def send(self, state: WidgetState) -> None:
        """Run the script with a widget's state besides those that AppTest knows."""
        run_with(self.app, state)
        self.store()

    def forget_status(self) -> "Page":
        """Let the time pass for which the backend's status and the model's description are remembered."""
        st.cache_data.clear()
        st.cache_resource.clear()
        return self

    def change(self, **clients: Any) -> None:
        """Give the page other clients."""
        self.clients = replace(self.clients, **clients)

    def write(self, prompt: str) -> "Page":
        """Write into the prompt field and leave it."""
        self.app.text_area(key="prompt").set_value(prompt)
        return self.run()

    def write_english(self, english: str) -> "Page":
        """Change the translation."""
        self.app.text_area(key="english").set_value(english)
        return self.run()

    def press(self, key: str) -> "Page":
        """Press a button by the beginning of its key."""
        [button] = [button for button in self.app.button if button.key and button.key.startswith(key)]
        button.click()
        return self.run()

    def go_to(self, view: str) -> "Page":
        """Open the gallery, or the page's other part."""
        self.app.button_group(key="view").set_value(view)
        return self.run()

    def draw(self, prompt: str = "青い背景に赤いりんご") -> "Page":
        """Ask for a picture."""
        return self.write(prompt).press("draw")

    def has(self, key: str) -> bool:
        """Whether there is a button whose key begins so."""
        return any(button.key and button.key.startswith(key) for button in self.app.button)

    @property
    def english(self) -> str:
        return str(self.app.text_area(key="english").value)

    @property
    def prompt(self) -> str:
        return str(self.app.text_area(key="prompt").value)

    @property
    def words(self) -> str:
        """All that is to read outside of fields and buttons."""
        kinds = (self.app.title, self.app.caption, self.app.markdown, self.app.info, self.app.warning, self.app.error)
        texts = [element.value for kind in kinds for element in kind]
        bars = [bar.proto.text for bar in self.app.get("progress")]
        return "\n".join([*texts, *bars, *(toast.value for toast in self.app.toast)])

    @property
    def images(self) -> list[str]:
        """The addresses of the pictures."""
        return [url for image in self.app.image for url in image.value]

    @property
    def saved(self) -> list[tuple[str, bytes]]:
        """Name and content of the files that were handed to the browser."""
        files = [json.loads(component.proto.json) for component in self.components("kotoe.save")]
        return [(file["name"], base64.b64decode(file["url"].partition(",")[2])) for file in files]

    def components(self, name: str) -> list[Any]:
        """Those of our own that are on the page."""
        return [found for found in self.app.get("bidi_component") if found.proto.component_name == name]

    def has_unexpected_error(self) -> bool:
        return JAPANESE.unexpected_error in self.words
