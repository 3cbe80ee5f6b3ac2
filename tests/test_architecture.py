import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNTIMES = ("backend_gpu", "frontend_streamlit")
LIBRARIES = ("torch", "fastapi", "starlette", "uvicorn", "streamlit")
ANY = "errors files logs plain_text streams"
# What each part may import of its own runtime and of those libraries: the last column in docs/design.md
ARROWS = {
    "backend_gpu/glide": "errors torch",
    "backend_gpu/mini": f"{ANY} glide torch",
    "backend_gpu/engine": f"{ANY} glide mini download settings torch",
    "backend_gpu/jobs": f"{ANY} engine gallery metrics",
    "backend_gpu/api": f"{ANY} engine gallery jobs service settings fastapi starlette uvicorn",
    "backend_gpu/training": f"{ANY} glide mini settings torch",
    "frontend_streamlit/page": "browser_storage clients state texts translation streamlit",
    "frontend_streamlit/state": "clients translation streamlit",
    "frontend_streamlit/clients": "settings translation",
    "frontend_streamlit/translation": "settings streams",
    "frontend_streamlit/texts": "clients state.waiting translation",
}
PINNED = re.compile(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*")  # a local version (+cpu) would fit one kind of machine only


ENGINES = [  # the files beside the protocol
    f"backend_gpu.engine.{path.stem}" for path in (ROOT / "backend_gpu/engine").glob("*.py") if path.stem != "__init__"
]


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


@pytest.mark.parametrize(("folder", "targets"), ARROWS.items())
def test_imports_point_one_way(folder: str, targets: str) -> None:
    runtime, own = folder.split("/")
    names = [name if name in LIBRARIES else f"{runtime}.{name}" for name in (own, *targets.split())]
    assert not wrong_imports(folder, *RUNTIMES, *LIBRARIES, allowed=tuple(names))


def test_every_part_has_its_arrows() -> None:
    assert {
        str(path.parent.relative_to(ROOT)) for runtime in RUNTIMES for path in ROOT.glob(f"{runtime}/*/__init__.py")
    } == set(ARROWS)


def test_glide_needs_four_libraries_and_no_network() -> None:
    network = {"asyncio", "ftplib", "http", "socket", "socketserver", "ssl", "urllib"}
    allowed = {"backend_gpu", "numpy", "safetensors", "tiktoken", "torch"} | (sys.stdlib_module_names - network)
    files = sources("backend_gpu/glide")
    assert files
    assert not {name for path in files for name in imports(path) if name.split(".")[0] not in allowed}


def test_the_service_needs_nothing_of_the_training() -> None:
    service = [path for path in sources("backend_gpu") if "training" not in path.parts]
    assert service
    assert not [path for path in service for name in imports(path) if is_within(name, "backend_gpu.training")]


def test_http_knows_the_engine_by_its_protocol_alone() -> None:
    assert not wrong_imports("backend_gpu/api", "backend_gpu.glide", "backend_gpu.mini", *ENGINES)


def test_the_faces_and_what_they_share_import_no_other_face() -> None:
    api, native, openai = ROOT / "backend_gpu/api", "backend_gpu.api.routes", "backend_gpu.api.openai"
    own = {api / "routes.py": {native}} | {path: {openai} for path in sources("backend_gpu/api/openai")}
    forbidden = {path: {native, openai} - own.get(path, set()) for path in sources("backend_gpu/api")}
    del forbidden[api / "app.py"]  # which puts them together
    assert not [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, faces in forbidden.items()
        for name in imports(path)
        if is_within(name, *faces)
    ]


def test_backend_never_imports_the_frontend() -> None:
    assert not wrong_imports("backend_gpu", "frontend_streamlit", "streamlit")


def test_frontend_imports_neither_the_backend_nor_torch() -> None:
    assert not wrong_imports("frontend_streamlit", "backend_gpu", "torch")


@pytest.mark.parametrize(
    "module",
    [
        "backend_gpu",
        "backend_gpu.__main__",
        "backend_gpu.download",
        "backend_gpu.mini.metadata",
        "backend_gpu.mini.words",
    ],
)
def test_importing_the_backend_leaves_torch_alone(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or f"{module} imports torch"


@pytest.mark.parametrize("package", ["torch", "fastapi", "starlette", "backend_gpu.glide"])
def test_importing_the_queue_leaves_alone(package: str) -> None:
    code = f"import sys, backend_gpu.jobs.queue; sys.exit({package!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or f"the queue imports {package}"


def test_the_queue_can_be_imported_where_torch_is_not_installed() -> None:
    code = """
from importlib import metadata
find = metadata.Distribution.from_name
def without_torch(name):
    if name == "torch":
        raise metadata.PackageNotFoundError(name)
    return find(name)
metadata.Distribution.from_name = without_torch
import sys
sys.modules["torch"] = None  # importing it fails
import backend_gpu.jobs.queue
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_queue_never_imports_what_draws_or_what_serves() -> None:
    others = ("api", "glide", "mini", "service", "settings")
    assert not wrong_imports("backend_gpu/jobs", *(f"backend_gpu.{it}" for it in others), *ENGINES)


def test_routes_reach_the_parts_of_the_queue_only_through_it() -> None:
    parts = ("blocklist", "drawing", "feed", "forecast", "intake", "pictures", "slots", "store", "worker")
    assert not wrong_imports("backend_gpu/api", *(f"backend_gpu.jobs.{part}" for part in parts))
    private = {f"_{part}" for part in parts}
    assert not [
        f"{path.name}:{node.lineno}"
        for path in sources("backend_gpu/api")
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr in private
    ]


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = {"utils.py", "common.py", "helpers.py"}
    assert not [path for folder in (*RUNTIMES, "tests") for path in sources(folder) if path.name in drawers]


def test_only_what_draws_or_remembers_knows_streamlit() -> None:
    page = {path for folder in ("page", "state") for path in sources(f"frontend_streamlit/{folder}")}
    page |= {ROOT / "frontend_streamlit" / name for name in ("app.py", "browser_storage.py")}
    files = sources("frontend_streamlit")
    assert page < set(files)
    assert not [path for path in files if path not in page for name in imports(path) if is_within(name, "streamlit")]


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
