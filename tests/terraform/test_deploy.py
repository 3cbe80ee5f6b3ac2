"""`make deploy` and `make destroy` against stand-ins of gcloud, terraform and docker: order, repetition, refusals."""

import json
import marshal
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

# A cloud in a folder: each stand-in notes its call, then answers from the files there and changes them. A deployment
# starts two dozen of them, most of which need none of the modules that take longer to import than Python to start.
STAND_IN = """
import fcntl, marshal, os, sys

bin, name = os.path.split(__file__)
cloud, call = os.path.dirname(bin), " ".join(sys.argv[1:])
with open(f"{cloud}/calls", "a") as calls:
    calls.write(f"{name} {call}\\n")
lock = open(f"{cloud}/lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)  # two builds run side by side
with open(f"{cloud}/world", "rb") as file:
    world = marshal.load(file)


def end(answer="", code=0):
    with open(f"{cloud}/world", "wb") as file:
        marshal.dump(world, file)
    if not isinstance(answer, str):
        import json
        answer = json.dumps(answer)
    print(answer)
    sys.exit(code)


def refuse(message):
    print(message, file=sys.stderr)
    end(code=1)


for pattern, message in world["troubles"].items():
    import re
    if re.search(pattern, f"{name} {call}"):
        refuse(message)
"""
GCLOUD = """
if "auth list" in call: end(world["account"])
if "print-access-token" in call: end("ya29.must-not-be-logged") if world["credentials"] else refuse("no credentials")
if "projects get-ancestors" in call: end(world["ancestors"])
if "billing projects describe" in call: end(world["billing"])
if "projects describe" in call: end("123") if world["project"] in call else refuse(
    f"ERROR: (gcloud.projects.describe) [a@example.com] does not have permission to access projects instance "
    f"[{sys.argv[3]}] (or it may not exist): The caller does not have permission"
)
if "services list" in call: end("\\n".join(world["apis"]))
if "services enable" in call: import re; world["apis"] += re.findall(r"\\S+googleapis.com", call); end()
if "-types list" in call: end("\\n".join(world["zones"]))
if "project-info describe" in call: end({"quotas": world["quotas"]})
if "regions describe" in call: end({"quotas": world["quotas"]})
if "buckets describe" in call: end() if world["bucket"] else refuse(
    f"ERROR: (gcloud.storage.buckets.describe) {sys.argv[4]} not found: 404."
)
if "buckets create" in call: world["bucket"] = True; end()
if "storage rm" in call: world["bucket"] = False; end()
if "images describe" in call: end() if sys.argv[5] in world["images"] else refuse(
    "ERROR: (gcloud.artifacts.docker.images.describe) Image not found.\\n\\nA valid container image has the format of …"
)
if "builds submit" in call: import re; world["images"].append(re.search("_IMAGE=([^,]*)", call)[1]); end()
if "instances describe" in call: end(world["machine"]["status"])
if "get-guest-attributes" in call:
    boot = world["machine"]["boot"]
    answer = boot.pop(0) if len(boot) > 1 else boot[0]
    end([{"namespace": "app", "key": key, "value": value} for key, value in answer.items()])
if "instances reset" in call: world["machine"]["boot"] = world["machine"]["after_reset"]; end()
end()
"""
TERRAFORM = """
import json, re
stack = re.search(r"terraform/(bootstrap|app)", call)
if "version -json" in call: end({"terraform_version": world["terraform"]})
if " output " in call: end({key: {"value": value} for key, value in world["stacks"][stack[1]].items()})
if " apply " in call and stack[1] == "bootstrap":
    region = re.search("-var=region=(\\\\S+)", call)[1]
    registry = f"{region}-docker.pkg.dev/p-123456/kotoe"
    world["stacks"]["bootstrap"] = {"registry": registry, "build_account": "build", "build_bucket": "p-build"}
if " apply " in call and stack[1] == "app":
    zone, kind = re.search("-var=zone=(\\\\S+)", call)[1], re.search("-var=backend=(\\\\S+)", call)[1]
    if zone in world["sold_out"]: refuse("Error: ZONE_RESOURCE_POOL_EXHAUSTED: no machine")
    world["secret"] = os.environ["TF_VAR_oidc_client_secret"]
    users = json.loads((re.search("-var=users=(\\\\[.*?\\\\])", call) or [0, "[]"])[1])
    backend = {"kind": kind, "zone": zone, "instance": "kotoe-backend", "revision": world["revision"]}
    world["stacks"]["app"] = {"page_url": "https://kotoe-123.run.app", "backend": backend, "users": users}
if " destroy " in call:
    if stack[1] == "bootstrap" and world["subnet_held"]:
        world["subnet_held"] -= 1
        refuse("Error: The subnetwork resource 'x' is already being used by 'y'")
    world["stacks"][stack[1]] = {}
end()
"""
PROJECT = "p-123456"
WORLD: dict[str, Any] = {
    "account": "a@example.com",
    "ancestors": [{"id": PROJECT, "type": "project"}, {"id": "1", "type": "organization"}],
    "apis": [],
    "billing": {"billingEnabled": True, "billingAccountName": "billingAccounts/012345-6789AB-CDEF01"},
    "bucket": False,
    "credentials": True,
    "images": [],
    "machine": {"status": "RUNNING", "boot": [{"phase": "ready 1700000000", "revision": "r1"}], "after_reset": []},
    "project": PROJECT,
    "quotas": [{"metric": "GPUS_ALL_REGIONS", "limit": 1.0}, {"metric": "NVIDIA_T4_GPUS", "limit": 1.0}],
    "revision": "r1",
    "secret": "",
    "sold_out": [],
    "stacks": {"bootstrap": {}, "app": {}},
    "subnet_held": 0,
    "terraform": "1.11.4",
    "troubles": {},
    "zones": ["asia-northeast1-a", "asia-northeast1-c", "us-central1-a"],
}


DEPLOYED = {
    "bucket": True,
    "stacks": {
        "bootstrap": {"registry": f"asia-northeast1-docker.pkg.dev/{PROJECT}/kotoe"},
        "app": {"backend": {"kind": "vm", "zone": "asia-northeast1-c"}},
    },
}


@dataclass(frozen=True)
class Cloud:
    """A checkout with the stand-ins before everything else on PATH."""

    folder: Path

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    def run(self, command: str, **options: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "PROJECT": PROJECT,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command_line = [sys.executable, "-m", "terraform.deploy", command]
        return subprocess.run(
            command_line,
            cwd=self.checkout,
            env=environment | options,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def world(self) -> dict[str, Any]:
        found: dict[str, Any] = marshal.loads((self.folder / "world").read_bytes())
        return found

    def change(self, **values: Any) -> None:
        (self.folder / "world").write_bytes(marshal.dumps(self.world() | values))

    def calls(self) -> list[str]:
        """What was called since the last look."""
        path = self.folder / "calls"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.write_text("", encoding="utf-8")
        return lines

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        return subprocess.run(
            ["git", *identity, *arguments], cwd=self.checkout, capture_output=True, text=True, check=True
        ).stdout.strip()


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    cloud = Cloud(tmp_path)
    (tmp_path / "bin").mkdir()
    for name, answers in {"gcloud": GCLOUD, "terraform": TERRAFORM, "docker": "end()"}.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!{sys.executable} -IS\n{STAND_IN}{answers}", encoding="utf-8")
        path.chmod(0o755)
    (tmp_path / "world").write_bytes(marshal.dumps(WORLD))
    shutil.copytree(ROOT / "terraform/deploy", tmp_path / "checkout/terraform/deploy")
    (tmp_path / "checkout/terraform/app").mkdir()
    shutil.copy(ROOT / "terraform/app/gpus.json", tmp_path / "checkout/terraform/app")
    (tmp_path / "checkout/docker").mkdir()
    for name in ("backend.Dockerfile", "frontend.Dockerfile"):
        (tmp_path / "checkout/docker" / name).write_text("FROM scratch\n", encoding="utf-8")
    (tmp_path / "checkout/.gitignore").write_text("/out/\n__pycache__/\n", encoding="utf-8")
    cloud.git("init", "--quiet")
    cloud.git("add", "--all")
    cloud.git("commit", "--quiet", "--message=a")
    return cloud


def steps(calls: list[str]) -> list[str]:
    """What changes something, in few words."""
    words = {
        r"services enable": "APIs",
        r"buckets create": "state bucket",
        r"bootstrap apply": "bootstrap",
        r"builds submit": "build",
        r"buildx build": "build",
        r"app apply": "app",
        r"instances reset": "reset",
        r"app destroy": "destroy app",
        r"bootstrap destroy": "destroy bootstrap",
        r"storage rm": "destroy state",
    }
    return [word for call in calls for pattern, word in words.items() if re.search(pattern, call)]


def argument(calls: list[str], step: str, name: str) -> str:
    (call,) = [call for call in calls if step in call]
    match = re.search(rf"{name}=(\S+)", call)
    assert match, call
    return match[1]


# --- the way it should go ------------------------------------------------------------------------------------


def test_deploy_goes_from_the_checks_to_the_url_with_a_line_for_each_phase(cloud: Cloud) -> None:
    done = cloud.run("deploy")
    calls = cloud.calls()
    assert done.returncode == 0, done.stderr
    assert steps(calls) == ["APIs", "state bucket", "bootstrap", "build", "build", "app"]
    first = next(i for i, call in enumerate(calls) if "buckets create" in call)
    checks = [
        "version -json",
        "auth list",
        "billing",
        "get-ancestors",
        "services list",
        "types list",
        "regions describe",
    ]
    assert all(any(check in call for call in calls[:first]) for check in checks)

    *lines, url = done.stdout.splitlines()
    assert url == "https://kotoe-123.run.app"
    assert all(re.match(r" *\d+:\d\d  \S", line) for line in lines)
    phases = [re.split(r"\s+|:", line.split(maxsplit=1)[1])[0] for line in lines]
    assert phases == ["checking", "state", "bootstrap", "images", "app", "GPU", "done"]


def test_images_are_named_by_their_commit(cloud: Cloud) -> None:
    cloud.run("deploy")
    tag = cloud.git("rev-parse", "--short=12", "HEAD")
    assert argument(cloud.calls(), "app apply", "-var=image_tag") == tag
    assert set(cloud.world()["images"]) == {
        f"asia-northeast1-docker.pkg.dev/{PROJECT}/kotoe/{name}:{tag}" for name in ("backend", "page")
    }


def test_second_deploy_builds_and_boots_nothing(cloud: Cloud) -> None:
    cloud.run("deploy")
    cloud.calls()
    done = cloud.run("deploy")
    assert done.returncode == 0, done.stderr
    assert steps(cloud.calls()) == ["bootstrap", "app"]


def test_interrupted_deploy_builds_only_what_is_missing(cloud: Cloud) -> None:
    cloud.change(troubles={"builds submit.*_IMAGE=[^,]*/page:": "ERROR: build failed"})
    failed = cloud.run("deploy")
    assert failed.returncode == 1
    assert "ERROR: build failed" in failed.stderr
    cloud.calls()
    cloud.change(troubles={})
    assert cloud.run("deploy").returncode == 0
    assert steps(cloud.calls()) == ["bootstrap", "build", "app"]


def test_changed_tree_is_marked_and_git_is_left_alone(cloud: Cloud) -> None:
    (cloud.checkout / "new.py").write_text("x = 1\n", encoding="utf-8")
    before = cloud.git("status", "--porcelain")
    tags = []
    for text in ("x = 1\n", "x = 2\n"):
        (cloud.checkout / "new.py").write_text(text, encoding="utf-8")
        done = cloud.run("deploy")
        assert done.returncode == 0, done.stderr
        assert "the working tree has changes" in done.stdout
        tags.append(argument(cloud.calls(), "app apply", "-var=image_tag"))
    assert all(re.fullmatch(r"[0-9a-f]{12}-dirty-[0-9a-f]{8}", tag) for tag in tags)
    assert tags[0] != tags[1]
    assert cloud.git("status", "--porcelain") == before


def test_other_weights_are_another_image(cloud: Cloud) -> None:
    cloud.run("deploy", MODEL="glide")
    calls = cloud.calls()
    assert argument(calls, "app apply", "-var=image_tag").endswith("-glide")
    assert "_MODEL=glide," in next(call for call in calls if "builds submit" in call)


def test_torch_from_another_index_is_another_image(cloud: Cloud) -> None:
    tags = []
    for index in ("https://wheels.example/cu126", "https://wheels.example/cu128"):
        done = cloud.run("deploy", TORCH_INDEX=index)
        calls = cloud.calls()
        assert done.returncode == 0, done.stderr
        assert f"_TORCH_INDEX={index}," in next(call for call in calls if "builds submit" in call)
        tags.append(argument(calls, "app apply", "-var=image_tag"))
    assert all(re.fullmatch(r"[0-9a-f]{12}-torch-[0-9a-f]{8}", tag) for tag in tags)
    assert tags[0] != tags[1]


def test_docker_builds_for_the_clouds_machines(cloud: Cloud) -> None:
    done = cloud.run("deploy", BUILDER="docker")
    calls = cloud.calls()
    assert done.returncode == 0, done.stderr
    assert len([call for call in calls if "buildx build --platform=linux/amd64 --push" in call]) == 2
    assert not [call for call in calls if "builds submit" in call]


# --- zones, machine, users -----------------------------------------------------------------------------------


def test_next_zone_is_tried_when_one_is_sold_out(cloud: Cloud) -> None:
    cloud.change(sold_out=["asia-northeast1-a"])
    done = cloud.run("deploy")
    zones = [argument([call], "app apply", "-var=zone") for call in cloud.calls() if "app apply" in call]
    assert done.returncode == 0, done.stderr
    assert zones == ["asia-northeast1-a", "asia-northeast1-c"]
    assert "asia-northeast1-a has no t4 left at the moment" in done.stdout


def test_machine_stays_in_the_zone_where_it_is(cloud: Cloud) -> None:
    cloud.change(**DEPLOYED)
    cloud.run("deploy")
    assert argument(cloud.calls(), "app apply", "-var=zone") == "asia-northeast1-c"


def test_named_zones_are_tried_in_the_order_in_which_they_are_named(cloud: Cloud) -> None:
    cloud.change(sold_out=["asia-northeast1-a", "asia-northeast1-c"])
    done = cloud.run("deploy", ZONE="asia-northeast1-c,asia-northeast1-a")
    zones = [argument([call], "app apply", "-var=zone") for call in cloud.calls() if "app apply" in call]
    assert zones == ["asia-northeast1-c", "asia-northeast1-a"]
    assert done.returncode == 1
    assert done.stderr.startswith("no t4 is left in asia-northeast1-c, asia-northeast1-a: run it again later")


def test_running_machine_boots_anew_when_its_revision_is_another(cloud: Cloud) -> None:
    boot = [{"phase": "boot 1700000100", "revision": "r2"}, {"phase": "ready 1700000160", "revision": "r2"}]
    machine = WORLD["machine"] | {"after_reset": [*WORLD["machine"]["boot"], *boot]}
    cloud.change(revision="r2", machine=machine)
    environment = {"PYTHONPATH": str(no_waiting(cloud.folder))}
    done = cloud.run("deploy", **environment)
    assert done.returncode == 0, done.stderr
    assert steps(cloud.calls())[-1] == "reset"
    assert re.findall(r"GPU machine: (\w+)", done.stdout) == ["boot", "ready"]  # not the ready of the run before


def test_sleeping_machine_keeps_sleeping(cloud: Cloud) -> None:
    cloud.change(revision="r2", machine=WORLD["machine"] | {"status": "TERMINATED"})
    done = cloud.run("deploy")
    assert done.returncode == 0, done.stderr
    assert "the GPU machine sleeps" in done.stdout
    assert "reset" not in steps(cloud.calls())


def test_machine_that_goes_off_at_its_first_boot_is_told_with_where_to_look(cloud: Cloud) -> None:
    text = GCLOUD.replace('end(world["machine"]["status"])', 'end(world["statuses"].pop(0))')
    (cloud.folder / "bin/gcloud").write_text(f"#!{sys.executable} -IS\n{STAND_IN}{text}", encoding="utf-8")
    cloud.change(statuses=["RUNNING", "TERMINATED"], machine={"boot": [{}]})
    done = cloud.run("deploy")
    assert done.returncode == 1
    assert done.stderr.startswith("the GPU machine went off before it was ready: gcloud compute instances get-serial")


def no_waiting(folder: Path) -> Path:
    """A folder whose `sitecustomize` makes sleep return at once."""
    (folder / "python").mkdir()
    (folder / "python/sitecustomize.py").write_text("import time\ntime.sleep = lambda s: None\n", encoding="utf-8")
    return folder / "python"


def test_users_are_the_one_who_deploys_unless_named_and_stay_until_named_again(cloud: Cloud) -> None:
    found = []
    for options in ({}, {"USERS": "user:b@example.com,group:c@example.com"}, {}):
        cloud.run("deploy", **options)
        (call,) = [call for call in cloud.calls() if "app apply" in call]
        match = re.search(r"-var=users=(\[.*?\])", call)
        assert match
        found.append(json.loads(match[1]))
    named = ["user:b@example.com", "group:c@example.com"]
    assert found == [["user:a@example.com"], named, named]


def test_oidc_secret_goes_through_the_environment_and_into_no_log(cloud: Cloud) -> None:
    done = cloud.run("deploy", AUTH="oidc", OIDC_CLIENT_ID="1.apps", OIDC_CLIENT_SECRET="GOCSPX-secret")
    assert done.returncode == 0, done.stderr
    assert cloud.world()["secret"] == "GOCSPX-secret"
    logs = "".join(path.read_text(encoding="utf-8") for path in (cloud.checkout / "out").iterdir())
    assert "GOCSPX-secret" not in "".join(cloud.calls()) + logs + done.stdout
    assert "ya29" not in logs
    assert "https://kotoe-123.run.app/oauth2callback" in done.stdout


def test_budget_is_on_the_account_that_pays(cloud: Cloud) -> None:
    cloud.run("deploy", BUDGET="50")
    calls = cloud.calls()
    assert argument(calls, "app apply", "-var=monthly_budget") == "50"
    assert argument(calls, "app apply", "-var=billing_account") == "012345-6789AB-CDEF01"


def test_cloud_run_needs_no_zone_and_no_machine(cloud: Cloud) -> None:
    done = cloud.run("deploy", BACKEND="cloudrun", REGION="europe-west4")
    calls = cloud.calls()
    assert done.returncode == 0, done.stderr
    assert argument(calls, "app apply", "-var=gpu") == "l4"
    assert not [call for call in calls if "instances" in call or "types list" in call]


# --- refusals ------------------------------------------------------------------------------------------------

NO_GPU = [{"metric": "GPUS_ALL_REGIONS", "limit": 0.0}, {"metric": "NVIDIA_T4_GPUS", "limit": 1.0}]
NO_T4 = [{"metric": "GPUS_ALL_REGIONS", "limit": 1.0}, {"metric": "NVIDIA_T4_GPUS", "limit": 0.0}]
MISLEADING = (
    "Regional Access Boundary HTTP request failed: {'code': 404, 'message': 'Not found', 'status': 'NOT_FOUND'}\n"
)
REFUSALS: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "old Terraform": ({"terraform": "1.9.8"}, {}, "terraform is 1.9.8, and 1.11 or newer is needed"),
    "no buildx": ({"troubles": {"buildx version": "no"}}, {"BUILDER": "docker"}, "docker has no buildx"),
    "not logged in": ({"account": ""}, {}, "gcloud is not logged in: run gcloud auth login"),
    "no credentials": ({"credentials": False}, {}, "Terraform has no credentials: run gcloud auth application-default"),
    "no such project": ({"project": "other"}, {}, f"there is no project {PROJECT}, or you may not see it"),
    "project unseen": (
        {
            "troubles": {
                "gcloud projects describe": f"{MISLEADING}ERROR: gcloud crashed (ConnectionError): Max\n\n  gcloud"
            }
        },
        {},
        f"whether there is a project {PROJECT} can't be seen: gcloud crashed (ConnectionError): Max",
    ),
    "no billing": ({"billing": {"billingEnabled": False}}, {}, f"{PROJECT} has no billing account: https://console."),
    "billing unseen": (
        {"troubles": {"billing proj": "ERROR: denied"}},
        {},
        f"whether {PROJECT} has a billing account can",
    ),
    "no organization": ({"ancestors": [{"type": "project"}]}, {}, f"{PROJECT} is in no organization"),
    "a group with oidc": (
        {},
        {"AUTH": "oidc", "OIDC_CLIENT_ID": "1", "OIDC_CLIENT_SECRET": "2", "USERS": "group:a@example.com"},
        "AUTH=oidc takes only user: and domain: in USERS",
    ),
    "no OAuth client": ({}, {"AUTH": "oidc"}, "AUTH=oidc needs OIDC_CLIENT_ID and OIDC_CLIENT_SECRET"),
    "APIs forbidden": (
        {"troubles": {"services enable": "ERROR: denied"}},
        {},
        "cloudresourcemanager.googleapis.com, comp",
    ),
    "no such machine": (
        {"zones": ["us-central1-a"]},
        {},
        "asia-northeast1 has no t4: set REGION to one that has it (us-c",
    ),
    "wrong zone": (
        {},
        {"ZONE": "asia-northeast1-b"},
        "asia-northeast1-b has no t4; in asia-northeast1 there are asia-no",
    ),
    "no quota": (
        {"quotas": NO_GPU},
        {},
        f"{PROJECT} may have no GPU of that kind in all regions together: its quota GPUS",
    ),
    "no quota there": (
        {"quotas": NO_T4},
        {},
        f"{PROJECT} may have no GPU of that kind in asia-northeast1: its quota NVID",
    ),
    "no Spot quota": (
        {},
        {"SPOT": "1"},
        f"{PROJECT} may have no GPU of that kind in asia-northeast1: its quota PREEMPT",
    ),
    "Cloud Run elsewhere": (
        {},
        {"BACKEND": "cloudrun"},
        "Cloud Run has no l4 in asia-northeast1: set REGION to one of asia-s",
    ),
    "Cloud Run without": (
        {},
        {"BACKEND": "cloudrun", "GPU": "t4"},
        "Cloud Run has no t4: with BACKEND=cloudrun, GPU is one o",
    ),
}


@pytest.mark.parametrize(("changes", "options", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_what_can_not_work_ends_with_one_sentence_before_anything_is_made(
    cloud: Cloud, changes: dict[str, Any], options: dict[str, str], sentence: str
) -> None:
    cloud.change(**changes)
    done = cloud.run("deploy", **options)
    assert done.returncode == 1
    assert done.stderr.startswith(sentence), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert set(steps(cloud.calls())) <= {"APIs"}  # which cost nothing


@pytest.mark.parametrize("tool", ["gcloud", "terraform", "git", "docker"])
def test_missing_tool_is_named_with_where_to_get_it(cloud: Cloud, tool: str) -> None:
    (cloud.folder / "bin/git").symlink_to(str(shutil.which("git")))
    (cloud.folder / "bin" / tool).unlink()
    done = cloud.run("deploy", BUILDER="docker", PATH=str(cloud.folder / "bin"))
    assert done.returncode == 1
    assert re.fullmatch(rf"{tool} is not installed: https://\S+\n", done.stderr)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"PROJECT": ""}, "PROJECT is '': name the project's id, as in make deploy PROJECT=my-project-1"),
        ({"PROJECT": "My Project"}, "PROJECT is 'My Project'"),
        ({"GPU": "gtx-970"}, "GPU is 'gtx-970', not one of none, t4, v100, l4"),
        ({"AUTH": "none"}, "AUTH is 'none', not one of iap, oidc"),
        ({"REGION": "tokyo"}, "REGION is 'tokyo': name a region"),
        ({"REGION": "us-east4", "ZONE": "us-west1-a"}, "ZONE has 'us-west1-a', which is no zone of us-east4"),
        ({"USERS": "allUsers"}, "USERS has 'allUsers': write user:NAME@HOST"),
        ({"BUDGET": "50 EUR"}, "BUDGET is '50 EUR', not a whole number"),
        ({"TORCH_INDEX": "cu126"}, "TORCH_INDEX is 'cu126': name the URL"),
        ({"SPOT": "yes"}, "SPOT is 'yes', not 1 or 0"),
    ],
)
def test_option_that_can_not_be_is_refused_before_anything_is_called(
    cloud: Cloud, options: dict[str, str], sentence: str
) -> None:
    done = cloud.run("deploy", **options)
    assert done.returncode == 2
    assert done.stderr.startswith(sentence), done.stderr
    assert cloud.calls() == []


def test_other_region_is_refused_while_it_is_deployed_in_one(cloud: Cloud) -> None:
    cloud.change(**DEPLOYED)
    done = cloud.run("deploy", REGION="us-central1")
    assert done.stderr.startswith(
        f"{PROJECT} has Kotoe in asia-northeast1: set REGION=asia-northeast1, or run make des"
    )
    assert steps(cloud.calls()) == ["APIs"]


def test_quota_that_ends_during_the_deployment_is_told_with_the_console_link(cloud: Cloud) -> None:
    cloud.change(troubles={"app apply": "Error: Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally."})
    done = cloud.run("deploy")
    assert done.stderr.startswith(
        "Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally. Ask for more at https://cons"
    )


# --- destroy -------------------------------------------------------------------------------------------------


def test_destroy_removes_what_costs_money_first_and_the_state_last(cloud: Cloud) -> None:
    cloud.change(**DEPLOYED)
    done = cloud.run("destroy", YES="1")
    assert done.returncode == 0, done.stderr
    assert steps(cloud.calls()) == ["destroy app", "destroy bootstrap", "destroy state"]
    assert done.stdout.splitlines()[-1] == f"Nothing of Kotoe is left in {PROJECT}."


def test_destroy_asks_first(cloud: Cloud) -> None:
    cloud.change(**DEPLOYED)
    done = cloud.run("destroy")
    assert done.returncode == 1
    assert done.stderr.startswith("make destroy deletes all pictures and asks first: say YES=1")
    assert steps(cloud.calls()) == []


def test_destroy_leaves_the_subnet_that_cloud_run_holds_for_later(cloud: Cloud) -> None:
    cloud.change(**DEPLOYED, subnet_held=1)
    first = cloud.run("destroy", YES="1")
    assert first.returncode == 0, first.stderr
    assert "All that costs money is gone." in first.stdout
    assert cloud.world()["bucket"]  # the state, which the second run needs
    cloud.calls()
    assert cloud.run("destroy", YES="1").returncode == 0
    assert steps(cloud.calls()) == ["destroy app", "destroy bootstrap", "destroy state"]


def test_destroy_waits_for_the_subnet_if_it_is_told_to(cloud: Cloud) -> None:
    cloud.change(**DEPLOYED, subnet_held=2)
    done = cloud.run("destroy", YES="1", WAIT="1", PYTHONPATH=str(no_waiting(cloud.folder)))
    assert done.returncode == 0, done.stderr
    assert steps(cloud.calls()) == ["destroy app", *["destroy bootstrap"] * 3, "destroy state"]


@pytest.mark.parametrize("command", ["deploy", "destroy"])
def test_a_state_bucket_that_can_not_be_seen_is_not_taken_for_none(cloud: Cloud, command: str) -> None:
    denied = (
        "ERROR: (gcloud.storage.buckets.describe) [a] does not have permission to access b instance [b] (or it may not"
    )
    cloud.change(**DEPLOYED, troubles={"buckets describe": f"{MISLEADING}{denied}"})
    done = cloud.run(command, YES="1")
    assert done.returncode == 1
    assert denied in done.stderr
    assert "There is nothing of Kotoe" not in done.stdout
    assert steps(cloud.calls()) in (["APIs"], [])


def test_destroy_of_nothing_is_fine(cloud: Cloud) -> None:
    done = cloud.run("destroy", YES="1")
    assert done.returncode == 0
    assert done.stdout.startswith(f"There is nothing of Kotoe in {PROJECT}")
