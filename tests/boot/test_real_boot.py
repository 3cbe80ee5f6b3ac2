"""The startup script in a machine with systemd as process 1: metadata server, driver, docker stand in for the real."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SYSTEMD = Path("/lib/systemd/systemd")
REBOOT, POWER_OFF = 129, 130
STATUS = '{{"ready":true,"idle_seconds":{idle_s}}}'

UNITS = {
    "machine.target": "[Unit]\nWants=systemd-journald.service startup.service docker.service\n",
    "docker.service": "[Service]\nExecStart=/bin/sleep infinity\n",
    "metadata.service": """[Service]
ExecStartPre=/bin/sh -c 'ip address add 169.254.169.254/32 dev lo'
ExecStart=/usr/bin/python3 /mnt/metadata.py
ExecStartPost=/bin/sh -c 'until curl -so /dev/null http://169.254.169.254/; do sleep 0.1; done'
""",
    "startup.service": """[Unit]
Wants=metadata.service
After=metadata.service
[Service]
Type=oneshot
ExecStart=/bin/bash /mnt/startup.sh
""",
    "kotoe-idle.timer.d/often.conf": "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/1\n",
}
STAND_INS = {
    "curl": """case "$*" in
*secretmanager.googleapis.com*) echo '{ "payload": { "data": "czNjcmV0", "dataCrc32c": "1" } }' ;;
*) exec /usr/bin/curl "$@" ;;
esac""",
    "docker": """echo "$1" >> /mnt/docker
case "$1" in
image) [ -e /mnt/pulled ] && echo sha256:new ;;
login) cat > /dev/null ;;
pull) touch /mnt/pulled ;;
run) echo $$ > /run/container; exec /usr/bin/python3 /mnt/container.py "$@" ;;
stop) kill "$(cat /run/container)" ;;
esac""",
    "cos-extensions": """mkdir -p /var/lib/nvidia/bin
printf '#!/bin/sh\\n' > /var/lib/nvidia/bin/nvidia-smi
chmod +x /var/lib/nvidia/bin/nvidia-smi""",
}

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not SYSTEMD.exists() or not all(map(shutil.which, ("unshare", "nsenter", "ip", "curl"))),
    reason="booting a machine needs root, systemd, util-linux, iproute2 and curl",
)


class Machine:
    """One machine, booted any number of times from the same disk."""

    def __init__(self, folder: Path, startup_script: str) -> None:
        self.folder, self.shared = folder, folder / "shared"
        for path, text in {
            **{f"units/{name}": text for name, text in UNITS.items()},
            **{f"files/usr/local/bin/{name}": f"#!/bin/bash\n{text}\n" for name, text in STAND_INS.items()},
            "files/etc/hosts": "127.0.0.1 localhost\n169.254.169.254 metadata.google.internal\n",
            "shared/startup.sh": startup_script,
            "shared/metadata.py": (HERE / "metadata.py").read_text(encoding="utf-8"),
            "shared/container.py": (HERE / "container.py").read_text(encoding="utf-8"),
            "shared/uptime": "60.0 0.0\n",
            "shared/status": STATUS.format(idle_s=0.0),
        }.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
            (folder / path).chmod(0o755)
        self.process: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        self.process = subprocess.Popen(["bash", HERE / "machine.sh", self.folder])

    def run(self, *command: str) -> str:
        assert self.process
        pid = str(self.process.pid)
        for _ in ("the subshell or unshare", "process 1"):
            pid = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()[0]
        enter = ["nsenter", f"--target={pid}", "--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, check=False).stdout.strip()

    def phases(self) -> list[str]:
        path = self.shared / "attributes"
        return re.findall(r"^phase (\w+) \d+$", path.read_text(encoding="utf-8"), re.MULTILINE) if path.exists() else []

    def wait_for_phases(self, *phases: str) -> None:
        for _ in range(300):
            if self.phases() == list(phases):
                return
            time.sleep(0.1)
        log = self.run("journalctl", "--no-pager", "-n", "40")
        raise AssertionError(f"phases are {self.phases()}, not {phases}\n{log}")

    def forget_phases(self) -> None:
        (self.shared / "attributes").unlink()

    def idle_checks(self) -> int:
        path = self.shared / "checks"
        return path.stat().st_size if path.exists() else 0

    def end(self, timeout_s: float = 30) -> int:
        assert self.process
        return self.process.wait(timeout_s)


@pytest.fixture(scope="module")
def can_boot(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Some containers forbid what a machine needs."""
    folder = tmp_path_factory.mktemp("probe")
    for name in ("files", "work", "root"):
        (folder / name).mkdir()
    mount = "mount -t overlay -o lowerdir=/,upperdir=files,workdir=work overlay root && mount -t proc proc root/proc"
    namespaces = ["unshare", "--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup", "--fork"]
    done = subprocess.run([*namespaces, "sh", "-c", mount], cwd=folder, capture_output=True, text=True, check=False)
    groups = [path for path in ("/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/systemd") if Path(path).exists()]
    if done.returncode or not groups or not os.access("/sys/fs/cgroup", os.W_OK):
        pytest.skip(f"no machine can be booted here: {done.stderr.strip() or 'control groups are out of reach'}")


@pytest.fixture
def machine(can_boot: None, tmp_path: Path, startup_script: str) -> Iterator[Machine]:  # noqa: ARG001 # can_boot skips
    machine = Machine(tmp_path, startup_script)
    yield machine
    if machine.process and machine.process.poll() is None:
        machine.run("systemctl", "poweroff", "--force", "--force")
        machine.end()


def test_backend_comes_up_comes_back_and_lets_the_machine_sleep_only_without_work(machine: Machine) -> None:
    machine.boot()
    machine.wait_for_phases("boot", "driver", "pull", "loading", "ready")
    assert machine.run("systemctl", "is-active", "kotoe-backend.service", "kotoe-idle.timer") == "active\nactive"

    machine.forget_phases()
    machine.run("systemctl", "kill", "--signal=KILL", "kotoe-backend.service")
    machine.wait_for_phases("loading", "ready")  # the same image

    machine.forget_phases()
    machine.run("systemctl", "reboot")
    assert machine.end() == REBOOT
    machine.boot()
    machine.wait_for_phases("boot", "driver", "loading", "ready")
    assert (machine.shared / "docker").read_text(encoding="utf-8").split().count("pull") == 1

    checks = machine.idle_checks()
    for _ in range(100):  # work: the idle timer looks, and looks again
        if machine.idle_checks() >= checks + 3:
            break
        time.sleep(0.1)
    assert machine.idle_checks() >= checks + 3
    assert machine.process
    assert machine.process.poll() is None

    (machine.shared / "status").write_text(STATUS.format(idle_s=901.0), encoding="utf-8")
    assert machine.end() == POWER_OFF


def test_machine_that_never_becomes_ready_powers_off(machine: Machine) -> None:
    (machine.shared / "uptime").write_text("1801.0 0.0\n", encoding="utf-8")
    stand_in = machine.folder / "files/usr/local/bin/cos-extensions"
    stand_in.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")  # no driver, no backend
    machine.boot()
    assert machine.end() == POWER_OFF
    assert machine.phases()[:2] == ["boot", "driver"]
    assert "ready" not in machine.phases()
