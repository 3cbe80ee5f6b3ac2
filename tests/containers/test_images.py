"""What is in the images, and what is not."""

import json
import re
from pathlib import Path

import pytest

from tests.containers.stack import REVISION, ROOT, docker, image_of, what_is_missing

if reason := what_is_missing():
    pytest.skip(reason, allow_module_level=True)

SERVICES = ("backend", "page")
# Bytes; measured 1.05 GB and 0.75 GB, of which the base is 0.19 GB here and 0.13 GB in the official image.
MAX_SIZE = {"backend": 1.3e9, "page": 0.9e9}
COMPILERS = {"cc", "c++", "gcc", "g++", "clang", "ld", "make", "cmake", "nvcc", "rustc"}
TITLES = {"backend": "Kotoe: the backend", "page": "Kotoe: the page"}
OPTIONAL = {"page": ["ctranslate2", "sentencepiece"], "backend": []}


def run_in(service: str, *command: str) -> str:
    """What a command prints in a fresh container, as root, so that nothing is hidden."""
    done = docker(
        "run", "--rm", "--network=none", "--user=0", f"--entrypoint={command[0]}", image_of(service), *command[1:]
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files_in(service: str) -> list[Path]:
    return [Path(line) for line in run_in(service, "find", "/", "-xdev", "-not", "-path", "/proc/*").splitlines()]


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("service", SERVICES)
def test_every_package_is_at_its_pinned_version(service: str) -> None:
    code = "import importlib.metadata as m; print(*{f'{d.name}=={d.version}' for d in m.distributions()}, sep='\\n')"
    installed = {canonical(line) for line in run_in(service, "/opt/venv/bin/python", "-Ic", code).splitlines()}
    pinned = {
        canonical(line) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    }
    strays = {line for line in installed - pinned if not line.startswith(("nvidia-", "cuda-", "triton=="))}
    assert installed
    assert not strays  # torch itself pins what a CUDA build needs


def canonical(requirement: str) -> str:
    """One spelling for a name, and no local version."""
    name, _, version = requirement.partition("==")
    return f"{re.sub('[-_.]+', '-', name).lower()}=={version.partition('+')[0]}"


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("service", SERVICES)
def test_everything_that_the_code_imports_is_there(service: str) -> None:
    script = (Path(__file__).parent / "imports.py").read_text(encoding="utf-8")
    assert json.loads(run_in(service, "python", "-c", script)) == OPTIONAL[service]


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(("service", "foreign"), [("backend", "streamlit"), ("page", "torch")])
def test_neither_image_has_what_the_other_runs_on(service: str, foreign: str) -> None:
    assert run_in(service, "python", "-c", f"import importlib.util as u; print(u.find_spec('{foreign}'))") == "None\n"


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("service", SERVICES)
def test_no_compiler_cache_test_or_training_is_left_in_it(service: str) -> None:
    files = files_in(service)
    ours = [path for path in files if path.is_relative_to("/app")]
    packages = [path for path in files if path.is_relative_to("/opt/venv")]
    assert len(ours) > 20
    assert len(packages) > 1000
    assert not [path for path in files if path.parent.name in ("bin", "sbin") and path.name in COMPILERS]
    assert not [path for path in files if path.is_relative_to("/build") or {".cache", "pip-cache"} & set(path.parts)]
    assert not [path for path in packages if path.name == "tests"]
    assert not [path for path in ours if {"tests", "training", "terraform", "docs", ".git"} & set(path.parts)]


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("service", SERVICES)
def test_the_labels_say_what_it_is_and_of_which_revision(service: str) -> None:
    labels = json.loads(docker("image", "inspect", "--format={{json .Config.Labels}}", image_of(service)).stdout)
    assert {name: value for name, value in labels.items() if name.startswith("org.opencontainers.")} == {
        "org.opencontainers.image.title": TITLES[service],
        "org.opencontainers.image.licenses": "MIT",
        "org.opencontainers.image.revision": REVISION,
    }


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("service", SERVICES)
def test_it_is_no_larger_than_it_was(service: str) -> None:
    cuda = "import torch; print(torch.version.cuda)"
    if service == "backend" and run_in(service, "python", "-c", cuda) != "None\n":
        pytest.skip("measured with torch for CPUs; TORCH_INDEX chooses that")
    assert int(docker("image", "inspect", "--format={{.Size}}", image_of(service)).stdout) < MAX_SIZE[service]
