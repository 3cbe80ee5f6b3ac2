import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend_gpu.mini.metadata import trained_concepts
from tests import settings_table

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "terraform/README.md", "backend_gpu/mini/CARD.md")),
    *(ROOT / "docs").glob("*.md"),
]
FENCED = re.compile(r"^ *```.*?^ *```$", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
MOST_WORDS = 1100  # of the README

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def links(path: Path) -> list[str]:
    """What a document links to inside of the project."""
    found = (target or source for target, source in LINK.findall(FENCED.sub("", text_of(path))))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(path: Path) -> Iterator[str]:
    """The names that GitHub gives the headings of a document."""
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", text_of(path)), flags=re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_settings_page_is_what_its_generator_writes() -> None:
    page = text_of(settings_table.PAGE)
    assert page == settings_table.with_tables(page), "run .venv/bin/python -m tests.settings_table"


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len(text_of(ROOT / "README.md").split()) <= MOST_WORDS


def test_the_readme_says_how_many_things_the_embedded_model_draws() -> None:
    text, number = text_of(ROOT / "README.md"), len(trained_concepts())
    assert (f"{number} things" in text, f"{number} 種類" in text) == (True, True)


@each_document
def test_what_a_document_links_to_is_there(path: Path) -> None:
    for link in links(path):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), f"{link}: there is no {target.relative_to(ROOT)}"
        assert not anchor or anchor in anchors(target), f"{link}: no heading of that name"


@each_document
def test_the_commands_of_a_document_are_there(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), flags=re.MULTILINE))
    code = "\n".join([*re.findall(r"`[^`\n]+`", text_of(path)), *FENCED.findall(text_of(path))])
    assert not set(re.findall(r"\bmake ([a-z-]+)", code)) - targets
    modules = re.findall(r"python -m ((?:backend_gpu|frontend_streamlit|tests|terraform)[\w.]*)", code)
    files = [ROOT / module.rstrip(".").replace(".", "/") for module in modules]
    assert not [file for file in files if not file.with_suffix(".py").exists() and not (file / "__main__.py").exists()]


@each_document
def test_the_code_that_a_document_names_is_there(path: Path) -> None:
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.(?:py|tsv|toml))?)`", text_of(path)))
    starts = (ROOT, ROOT / "backend_gpu", ROOT / "frontend_streamlit", path.parent)
    named -= {name for name in named if "NAME" in name}
    assert not [name for name in named if not any((start / name).exists() for start in starts)]
