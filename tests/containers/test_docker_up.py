"""`make docker-up`, the lists of requirements, what the Dockerfiles run: what can be tested without an engine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Stands in for docker: keeps its arguments in a file beside itself, and fails as it is told.
STUB = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/arguments"
[ "$*" != "$DOCKER_FAILS" ]
"""


def names_in(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.partition("==")[0] for line in lines if line and not line.startswith("#")}


def make_docker_up(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it with no other programs on the path than those in a folder."""
    return subprocess.run(
        [str(shutil.which("make")), "docker-up", *arguments],
        cwd=ROOT,
        env={"PATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    (tmp_path / "docker").write_text(STUB, encoding="utf-8")
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "dirname").symlink_to(str(shutil.which("dirname")))
    return tmp_path


def test_the_images_install_what_requirements_txt_names_between_them() -> None:
    parts = [names_in(ROOT / "docker" / f"{part}-requirements.txt") for part in ("backend", "frontend")]
    assert set.union(*parts) == names_in(ROOT / "requirements.txt")


def test_the_stage_that_converts_the_published_weights_has_the_code_that_it_imports(tmp_path: Path) -> None:
    _, stage = (ROOT / "docker" / "backend.Dockerfile").read_text(encoding="utf-8").split(" AS weights\n")
    stage, _, _ = stage.partition("\nFROM ")
    for copied in re.findall("^COPY (.+)$", stage, flags=re.MULTILINE):
        *sources, target = copied.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target)
            else:
                (tmp_path / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, tmp_path / target)
    code = re.findall(r"from backend_gpu[\w.]* import \w+", stage)
    assert code
    # fetch() is imported where there are no weights yet, as in that stage
    code.append("import backend_gpu.download")
    done = subprocess.run(
        [sys.executable, "-c", "; ".join(code)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_without_docker_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = make_docker_up(tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("docker is missing")


@pytest.mark.parametrize(
    ("fails", "message"), [("compose version", "docker has no compose"), ("info", "docker does not answer")]
)
def test_what_docker_lacks_is_told_in_one_line(programs: Path, fails: str, message: str) -> None:
    done = make_docker_up(programs, DOCKER_FAILS=fails)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith(message)
    assert " up " not in (programs / "arguments").read_text(encoding="utf-8")


def test_it_starts_both_and_tells_the_address(programs: Path) -> None:
    done = make_docker_up(programs, "FRONTEND_PORT=9001")
    assert done.returncode == 0, done.stderr
    assert "http://127.0.0.1:9001" in done.stdout
    *_, up = (programs / "arguments").read_text(encoding="utf-8").splitlines()
    assert up == "compose --file docker/compose.yaml up --build --detach --wait"


@pytest.mark.parametrize(("gpu", "is_added"), [("1", True), ("0", False)])
def test_gpu_1_adds_the_override(programs: Path, gpu: str, is_added: bool) -> None:
    assert make_docker_up(programs, f"GPU={gpu}").returncode == 0
    assert ("docker/compose.gpu.yaml" in (programs / "arguments").read_text(encoding="utf-8")) == is_added


def test_a_failing_start_tells_where_to_look(programs: Path) -> None:
    done = make_docker_up(programs, DOCKER_FAILS="compose --file docker/compose.yaml up --build --detach --wait")
    assert done.returncode == 2
    assert "logs" in done.stderr
    assert "http://" not in done.stdout
