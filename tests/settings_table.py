"""The tables of docs/settings.md, from the settings themselves: `python -m tests.settings_table` writes them anew."""

from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

import backend_gpu.settings
import frontend_streamlit.settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
TABLES: dict[str, type[BaseSettings]] = {
    "page": frontend_streamlit.settings.Settings,
    "backend": backend_gpu.settings.Settings,
}


def with_tables(text: str) -> str:
    """The page with the tables as they must be.

    Raises:
        ValueError: it lacks the markers of a table.
    """
    for name, settings in TABLES.items():
        begin, end = f"<!-- {name}: begin, written by tests.settings_table -->", f"<!-- {name}: end -->"
        before, found_begin, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found_begin or not found_end:
            raise ValueError(f"there is no place for the table of the {name}: {begin} ... {end}")
        text = "\n".join([before + begin, *table(settings), end]) + after
    return text


def table(settings: type[BaseSettings]) -> list[str]:
    """The lines of a table with a row for each setting."""
    prefix = str(settings.model_config["env_prefix"])
    rows = [
        f"| `{prefix}{name.upper()}` | {default(field)} | {field.description} |"
        for name, field in settings.model_fields.items()
    ]
    return ["| variable | default | meaning |", "| --- | --- | --- |", *rows]


def default(field: FieldInfo) -> str:
    """A setting's default as a cell; empty if it has none."""
    value = field.get_default()
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in (None, "") else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
