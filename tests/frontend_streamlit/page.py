"""The page as its tests handle it: what a visitor does, and what they read."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.testing.v1 import AppTest

from frontend_streamlit.clients import Clients
from frontend_streamlit.texts import JAPANESE

APP = Path(__file__).parents[2] / "frontend_streamlit" / "app.py"
ME, OTHER = "m" * 32, "o" * 32


@dataclass
class Page:
    """One visit, of the owner `ME` unless the link is changed before the first run."""

    clients: Clients
    link: dict[str, str] = field(default_factory=lambda: {"u": ME})
    user: dict[str, Any] = field(default_factory=dict)  # signed in with OIDC
    app: AppTest = field(default_factory=lambda: AppTest.from_file(str(APP), default_timeout=20))

    def open(self) -> "Page":
        """Load the page, or load it anew by its link: nothing but the link is left of the visit."""
        self.app = AppTest.from_file(str(APP), default_timeout=20)
        self.app.query_params.update(self.link)
        self.app.user.update(self.user)
        return self.run()

    def run(self) -> "Page":
        """Let the script run; a traceback never reaches the page."""
        self.app.run()
        assert not self.app.exception
        values = self.app.query_params.items()  # a list if it came with the link, a word if the page has set it
        self.link = {name: value if isinstance(value, str) else value[0] for name, value in values}
        return self

    def forget_status(self) -> "Page":
        """Let the time pass for which the backend's status is remembered."""
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
        told = [element.value for kind in kinds for element in kind]
        bars = [bar.proto.text for bar in self.app.get("progress")]
        return "\n".join([*told, *bars, *(toast.value for toast in self.app.toast)])

    @property
    def images(self) -> list[str]:
        """The addresses of the pictures."""
        return [url for image in self.app.image for url in image.value]

    def is_surprised(self) -> bool:
        return JAPANESE.surprise in self.words
