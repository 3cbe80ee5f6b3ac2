import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from backend_gpu import settings as of_backend
from frontend_streamlit import settings as of_page

LOAD = "from backend_gpu.settings import let_waiting_threads_sleep as let; let(); import torch; torch.ones(2)"


@pytest.mark.parametrize(("chosen", "expected"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_waiting_threads_sleep_unless_somebody_chose_otherwise(chosen: dict[str, str], expected: str) -> None:
    others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment = others | chosen | {"OMP_DISPLAY_ENV": "true"}
    done = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True)
    if "OMP_WAIT_POLICY" not in done.stderr.upper():
        pytest.skip("this torch's OpenMP does not tell its settings")
    assert f"OMP_WAIT_POLICY = '{expected}'" in done.stderr.replace("PASSIVE", "passive").replace("ACTIVE", "active")


PATHS = [
    (of_backend.Settings, "BACKEND", "data_dir"),
    (of_backend.Settings, "BACKEND", "models_dir"),
    (of_backend.Settings, "BACKEND", "gallery"),
    (of_backend.Settings, "BACKEND", "mini_dir"),
    (of_backend.Settings, "BACKEND", "blocklist"),
    (of_page.BackendSettings, "BACKEND", "data_dir"),
    (of_page.BackendSettings, "BACKEND", "gallery"),
    (of_page.Settings, "FRONTEND", "gallery"),
    (of_page.Settings, "FRONTEND", "local_translator"),
    (of_page.Settings, "FRONTEND", "mini_dir"),
]


@pytest.mark.parametrize(("kind", "prefix", "name"), PATHS)
def test_home_folders_in_paths_are_meant_as_in_a_shell(
    kind: type[of_backend.Settings | of_page.Settings | of_page.BackendSettings],
    prefix: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    user = pwd.getpwuid(os.getuid())
    for typed, meant in {
        "~": tmp_path,
        "~/x y": tmp_path / "x y",
        f"~{user.pw_name}/x": Path(user.pw_dir) / "x",
        "a/~b": Path("a/~b"),
    }.items():
        monkeypatch.setenv(f"{prefix}_{name.upper()}", typed)
        assert Path(getattr(kind(), name)) == meant
    monkeypatch.setenv(f"{prefix}_{name.upper()}", "~nobody-of-that-name/x")
    with pytest.raises(ValidationError, match="there is no home folder ~nobody-of-that-name"):
        kind()


@pytest.mark.parametrize(
    ("kind", "name"), [(of_backend.Settings, "BACKEND_GALLERY"), (of_page.Settings, "FRONTEND_GALLERY")]
)
def test_the_address_of_a_bucket_is_no_path(
    kind: type[of_backend.Settings | of_page.Settings], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "gs://bucket/~/pictures")
    assert kind().gallery == "gs://bucket/~/pictures"
