"""The startup script as Terraform renders it: what both kinds of boot tests run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

BOOT = Path(__file__).parents[2] / "terraform" / "app" / "boot"
SETTINGS = {
    "BACKEND_GALLERY": "gs://p-kotoe-gallery",
    "BACKEND_MODEL": "mini",
    "DRIVER_VERSION": "R580",
    "GIVE_UP_MINUTES": "30",
    "GPU": "t4",
    "IDLE_MINUTES": "15",
    "IMAGE": "asia-northeast1-docker.pkg.dev/p/kotoe/backend@sha256:0123456789abcdef",
    "REGISTRY": "asia-northeast1-docker.pkg.dev",
    "REVISION": "0123",
    "TOKEN_SECRET": "projects/1/secrets/kotoe-token/versions/7",
}


@pytest.fixture(scope="session")
def boot_settings() -> dict[str, str]:
    return SETTINGS


@pytest.fixture(scope="session")
def startup_script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rendering takes no provider."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    folder = tmp_path_factory.mktemp("render")
    settings = ", ".join(f'{name} = "{value}"' for name, value in SETTINGS.items())
    (folder / "main.tf").write_text(
        f"""output "script" {{
          value = templatefile("{BOOT}/startup.sh.tftpl", {{
            files    = {{ for name in fileset("{BOOT}", "kotoe-*") : name => file("{BOOT}/${{name}}") }}
            settings = {{ {settings} }}
          }})
        }}
        """,
        encoding="utf-8",
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_CLI_CONFIG_FILE"}
    for arguments in (["apply", "-auto-approve"], ["output", "-raw", "script"]):
        command = ["terraform", f"-chdir={folder}", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return done.stdout
