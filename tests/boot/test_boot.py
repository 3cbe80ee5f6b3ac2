"""The GPU machine's boot, script by script, with stand-ins for Google's metadata, the driver's installer and docker."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from frontend_streamlit.clients.gpu_vm import BootPhase

ROOT = Path(__file__).parents[2]
BOOT = ROOT / "terraform" / "app" / "boot"
DIGEST = "sha256:0123456789abcdef"
IMAGE = f"asia-northeast1-docker.pkg.dev/p/kotoe/backend@{DIGEST}"
SETTINGS = {
    "BACKEND_GALLERY": "gs://p-kotoe-gallery",
    "BACKEND_MODEL": "mini",
    "DRIVER_VERSION": "R580",
    "GIVE_UP_MINUTES": "30",
    "GPU": "t4",
    "IDLE_MINUTES": "15",
    "IMAGE": IMAGE,
    "REGISTRY": "asia-northeast1-docker.pkg.dev",
    "REVISION": "0123",
    "TOKEN_SECRET": "projects/1/secrets/kotoe-token/versions/7",
}

# Every stand-in writes its name and arguments as a line of `calls`, then does what files of the machine say.
STANDS_IN = """#!/bin/bash
cd "$(dirname "$0")/.."
echo "${0##*/} $*" >> calls
"""
CURL = r"""
case "$*" in
*guest-attributes*) sed -n 's|.*--data \(.*\) .*/app/\(.*\)|\2: \1|p' <<< "$*" >> attributes ;;
*service-accounts*) echo '{"access_token":"ya29.access","expires_in":3599,"token_type":"Bearer"}' ;;
*secretmanager*)
    grep -q '^Authorization: Bearer ya29.access$' || exit 22
    [ ! -e no-secret ] || exit 22
    printf '{\n  "name": "x",\n  "payload": {\n    "data": "czNjcmV0",\n    "dataCrc32c": "1"\n  }\n}\n' ;;
*readyz*) [ -e ready ] || { touch ready; exit 22; } ;;
*v1/status*) cat status 2>/dev/null || exit 7 ;;
esac
"""
DOCKER = """
case "$1 $2" in
"image inspect") [ -e pulled ] || exit 1; echo sha256:new ;;
"image ls") printf 'sha256:old\\nsha256:new\\n' ;;
"login --username") cat > password ;;
pull*) [ ! -e no-registry ] || exit 1; touch pulled ;;
esac
"""
INSTALLER = "[ ! -e failures ] || { head -c -1 failures > f; mv f failures; [ ! -s failures ] || exit 1; }\n"


@dataclass(frozen=True)
class Machine:
    """A folder that the boot scripts take for a machine."""

    root: Path

    def run(self, script: str, **settings: str) -> subprocess.CompletedProcess[str]:
        boot = self.root / "kotoe" / "boot"
        values = SETTINGS | settings
        (boot / "settings.env").write_text("".join(f"{k}='{v}'\n" for k, v in values.items()), encoding="utf-8")
        return self.run_file(boot / script)

    def run_file(self, path: Path) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", "LANG": "C.UTF-8"}
        return subprocess.run(["bash", path], env=environment, capture_output=True, text=True, check=False, timeout=30)

    def here(self, text: str) -> str:
        """A script with this folder's paths instead of the machine's."""
        for path, ours in {
            "/var/lib/": "",
            "/etc/systemd/system": "units",
            "/run/": "run/",
            "/proc/uptime": "uptime",
            "/dev/nvidia": "dev/nvidia",
        }.items():
            text = text.replace(path, f"{self.root}/{ours}")
        return text

    def lines(self, name: str) -> list[str]:
        path = self.root / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def calls(self, command: str) -> list[str]:
        return [line for line in self.lines("calls") if line.split()[0] == command]

    def phases(self) -> list[str]:
        """What the page would read, one after the other."""
        reports = [line.removeprefix("phase: ") for line in self.lines("attributes") if line.startswith("phase: ")]
        assert all(re.fullmatch(r"[a-z]+ \d{10}", report) for report in reports)
        return [BootPhase(report.split()[0]).value for report in reports]

    def write(self, name: str, text: str = "") -> None:
        (self.root / name).write_text(text, encoding="utf-8")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    for folder in ("bin", "units", "run/kotoe", "kotoe/boot", "dev", "nvidia/bin"):
        (tmp_path / folder).mkdir(parents=True)
    behaviour = {"curl": CURL, "docker": DOCKER, "cos-extensions": INSTALLER, "systemctl": "[ ! -e broken ]\n"}
    for command in ("curl", "docker", "cos-extensions", "systemctl", "mount", "mountpoint", "sleep"):
        machine.write(f"bin/{command}", STANDS_IN + behaviour.get(command, ""))
        (tmp_path / "bin" / command).chmod(0o755)
    shutil.copy(tmp_path / "bin/mount", tmp_path / "nvidia/bin/nvidia-smi")
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        machine.write(f"dev/{name}")
    for path in BOOT.glob("kotoe-*"):
        machine.write(f"kotoe/boot/{path.name}", machine.here(path.read_text(encoding="utf-8")))
    machine.write("uptime", "600.25 1100.00\n")
    return machine


# --- units and scripts as such -----------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    units = [str(shutil.copy(path, tmp_path)) for path in (*BOOT.glob("*.service"), *BOOT.glob("*.timer"))]
    (tmp_path / "docker.service").write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "kotoe" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_shellcheck_finds_nothing_wrong_with_the_scripts() -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"  # of requirements-dev.txt
    command = [str(shellcheck), "--exclude=SC1091", *map(str, sorted(BOOT.glob("*.sh")))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# --- startup script -----------------------------------------------------------------


def test_startup_script_writes_every_file_as_it_is(machine: Machine, startup_script: str) -> None:
    shutil.rmtree(machine.root / "kotoe")
    machine.write("startup.sh", machine.here(startup_script))
    done = machine.run_file(machine.root / "startup.sh")
    assert done.returncode == 0, done.stderr
    written = {path.name: path.read_text(encoding="utf-8") for path in (machine.root / "kotoe/boot").iterdir()}
    assert written.pop("settings.env") == "".join(f"{name}='{value}'\n" for name, value in sorted(SETTINGS.items()))
    assert written == {path.name: machine.here(path.read_text(encoding="utf-8")) for path in BOOT.glob("kotoe-*")}
    assert {path.name for path in (machine.root / "units").iterdir()} == {
        "kotoe-backend.service",
        "kotoe-driver.service",
        "kotoe-idle.service",
        "kotoe-idle.timer",
    }


def test_startup_script_tells_boot_first_and_starts_the_idle_timer_before_the_backend(
    machine: Machine, startup_script: str
) -> None:
    machine.write("startup.sh", machine.here(startup_script))
    machine.run_file(machine.root / "startup.sh")
    assert machine.phases() == ["boot"]
    assert machine.lines("attributes")[1] == "revision: 0123"
    assert machine.calls("systemctl") == [
        "systemctl daemon-reload",
        "systemctl start kotoe-idle.timer",
        "systemctl start --no-block kotoe-backend.service",
    ]


def test_startup_script_that_fails_tells_so(machine: Machine, startup_script: str) -> None:
    machine.write("broken")
    machine.write("startup.sh", machine.here(startup_script))
    assert machine.run_file(machine.root / "startup.sh").returncode != 0
    assert machine.phases() == ["boot", "error"]


# --- driver -----------------------------------------------------------------


def test_driver_is_installed_made_executable_and_switched_on(machine: Machine) -> None:
    done = machine.run("kotoe-driver.sh")
    assert done.returncode == 0, done.stderr
    assert machine.phases() == ["driver"]
    assert machine.calls("cos-extensions") == ["cos-extensions install gpu -- -version=R580"]
    assert machine.calls("mount") == [f"mount -o remount,exec {machine.root}/nvidia"]


def test_driver_is_tried_again(machine: Machine) -> None:
    machine.write("failures", "xxx")
    assert machine.run("kotoe-driver.sh").returncode == 0
    assert len(machine.calls("cos-extensions")) == 3
    assert machine.phases() == ["driver"]


def test_driver_that_never_installs_is_an_error(machine: Machine) -> None:
    machine.write("failures", "x" * 99)
    assert machine.run("kotoe-driver.sh").returncode == 1
    assert len(machine.calls("cos-extensions")) == 5
    assert machine.phases() == ["driver", "error"]


def test_machine_without_a_gpu_needs_no_driver(machine: Machine) -> None:
    assert machine.run("kotoe-driver.sh", GPU="none").returncode == 0
    assert machine.lines("calls") == []


# --- image and token -----------------------------------------------------------------


def test_absent_image_is_pulled_by_digest_and_older_ones_go(machine: Machine) -> None:
    done = machine.run("kotoe-pull.sh")
    assert done.returncode == 0, done.stderr
    assert machine.phases() == ["pull"]
    assert f"docker pull --quiet {IMAGE}" in machine.calls("docker")
    assert machine.calls("docker")[-1] == "docker image rm --force sha256:old"
    assert machine.lines("password") == ["ya29.access"]


def test_image_that_is_there_is_not_pulled(machine: Machine) -> None:
    machine.write("pulled")
    assert machine.run("kotoe-pull.sh").returncode == 0
    assert machine.calls("docker") == [f"docker image inspect {IMAGE}"]
    assert machine.phases() == []


def test_token_is_in_memory_for_root_alone_and_in_no_command(machine: Machine) -> None:
    machine.run("kotoe-pull.sh")
    machine.run("kotoe-run.sh")
    assert machine.lines("run/kotoe/token.env") == ["BACKEND_TOKEN=s3cret"]
    assert machine.lines("run/kotoe/authorization") == ["Authorization: Bearer s3cret"]
    assert {path.stat().st_mode & 0o777 for path in (machine.root / "run/kotoe").iterdir()} == {0o600}
    assert not [line for line in machine.lines("calls") if "s3cret" in line or "ya29" in line]


@pytest.mark.parametrize(("trouble", "phases"), [("no-registry", ["pull", "error"]), ("no-secret", ["pull", "error"])])
def test_image_or_token_out_of_reach_is_an_error(machine: Machine, trouble: str, phases: list[str]) -> None:
    machine.write(trouble)
    assert machine.run("kotoe-pull.sh").returncode != 0
    assert machine.phases() == phases


# --- container -----------------------------------------------------------------


def test_container_gets_every_gpu_of_the_machine(machine: Machine) -> None:
    machine.run("kotoe-run.sh")
    (call,) = machine.calls("docker")
    assert re.findall(r"--device \S*/dev/(\S+)", call) == ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"]
    assert "BACKEND_DEVICE=cuda" in call
    assert "--gpus" not in call  # needs what Container-Optimized OS does not have
    assert call.endswith(IMAGE)
    assert machine.phases() == ["loading"]


def test_container_without_a_gpu_draws_on_the_cpu(machine: Machine) -> None:
    machine.run("kotoe-run.sh", GPU="none")
    (call,) = machine.calls("docker")
    assert "BACKEND_DEVICE=cpu" in call
    assert "nvidia" not in call


def test_ready_is_told_once_the_model_has_drawn(machine: Machine) -> None:
    assert machine.run("kotoe-ready.sh").returncode == 0
    assert len([call for call in machine.calls("curl") if "readyz" in call]) == 2
    assert machine.phases() == ["ready"]


# --- sleep -----------------------------------------------------------------


def status(idle_s: float, *, ready: bool = True) -> str:
    return f'{{"model":"mini","ready":{str(ready).lower()},"load_error":null,"idle_seconds":{idle_s},"vocabulary":[]}}'


@pytest.mark.parametrize(
    ("up_s", "answer", "sleeps"),
    [
        (7200, status(0.0), False),  # draws, or has jobs waiting
        (7200, status(899.9), False),
        (7200, status(900.2), True),
        (1799, None, False),  # boots
        (1801, None, True),  # never became ready
        (1799, status(1799, ready=False), False),  # loads
        (1801, status(1801, ready=False), True),
        (1801, "not what was expected", True),
    ],
)
def test_machine_powers_off_without_work_and_without_a_backend(
    machine: Machine, up_s: int, answer: str | None, sleeps: bool
) -> None:
    machine.write("uptime", f"{up_s}.37 0.00\n")
    if answer is not None:
        machine.write("status", answer)
    done = machine.run("kotoe-idle.sh")
    assert done.returncode == 0, done.stderr
    assert machine.calls("systemctl") == (["systemctl poweroff"] if sleeps else [])


@pytest.mark.parametrize(("later_s", "sleeps"), [(1700, False), (1900, True)])
def test_backend_that_was_ready_and_is_gone_has_the_same_time_to_come_back(
    machine: Machine, later_s: int, sleeps: bool
) -> None:
    machine.write("uptime", "10000.0 0.0\n")
    machine.write("status", status(0.0))
    machine.run("kotoe-idle.sh")
    (machine.root / "status").unlink()
    machine.write("uptime", f"{10000 + later_s}.0 0.0\n")
    machine.run("kotoe-idle.sh")
    assert bool(machine.calls("systemctl")) == sleeps


def test_idle_check_shows_the_token_to_nobody(machine: Machine) -> None:
    machine.run("kotoe-idle.sh")
    (call,) = machine.calls("curl")
    assert f"-H @{machine.root}/run/kotoe/authorization" in call
