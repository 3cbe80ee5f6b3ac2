import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNTIMES = ("backend_gpu", "frontend_streamlit")
PINNED = re.compile(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*")  # a local version (+cpu) would fit one kind of machine only


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))


def imports(path: Path) -> Iterator[str]:
    """Yield the full dotted name of everything that a file imports, wherever in the file the import stands."""
    package = path.relative_to(ROOT).parent.parts
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*parents, *([node.module] if node.module else [])))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def wrong_imports(folder: str, *forbidden: str, allowed: tuple[str, ...] = ()) -> list[str]:
    files = sources(folder)
    assert files, f"{folder} has no Python files"
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        if is_within(name, *forbidden) and not is_within(name, *allowed)
    ]


def requirements(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r "))]  # what -r names is read by itself


def test_glide_knows_nothing_of_the_service_but_its_errors() -> None:
    allowed = ("backend_gpu.glide", "backend_gpu.errors")
    service = ("backend_gpu", "fastapi", "pydantic", "pydantic_settings", "ray", "sqlite3")
    assert not wrong_imports("backend_gpu/glide", *service, allowed=allowed)


def test_backend_never_imports_the_frontend() -> None:
    assert not wrong_imports("backend_gpu", "frontend_streamlit", "streamlit")


def test_frontend_imports_neither_the_backend_nor_torch() -> None:
    assert not wrong_imports("frontend_streamlit", "backend_gpu", "torch")


@pytest.mark.parametrize("module", ["backend_gpu", "backend_gpu.__main__"])
def test_importing_the_backend_leaves_torch_alone(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or f"{module} imports torch"


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = {"utils.py", "common.py", "helpers.py"}
    assert not [path for folder in (*RUNTIMES, "tests") for path in sources(folder) if path.name in drawers]


def test_only_settings_read_the_environment() -> None:
    names = {"environ", "environb", "getenv", "getenvb"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in RUNTIMES
        for path in sources(folder)
        if path.name != "settings.py"
        for node in nodes(path)
        if (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and names & {alias.name for alias in node.names})
    ]
    assert not found


@pytest.mark.parametrize(
    "path", [*ROOT.glob("requirements*.txt"), ROOT / "constraints.txt"], ids=lambda path: path.name
)
def test_every_requirement_is_pinned_to_one_version(path: Path) -> None:
    lines = requirements(path)
    assert lines
    assert not [line for line in lines if not PINNED.fullmatch(line)]


def test_constraints_pin_every_direct_requirement_at_the_same_version() -> None:
    direct = {line for path in ROOT.glob("requirements*.txt") for line in requirements(path)}
    assert direct <= set(requirements(ROOT / "constraints.txt"))
