"""Terraform itself on both stacks, without a cloud: with the real providers, or stand-ins that have their schemas."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT.parent / "shared" / "tools" / "terraform-offline" / "install.sh"  # where it is, no registry is needed
CACHE = ROOT / ".venv"  # ignored by git, removed by make clean
CANARY = "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"
TERRAFORM = shutil.which("terraform")

pytestmark = pytest.mark.skipif(TERRAFORM is None, reason="terraform is not installed")


def terraform(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(TERRAFORM), f"-chdir={folder}", *arguments]
    automation = {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1", "GOOGLE_PROJECT": "kotoe-test"}
    return subprocess.run(
        command, env=os.environ | automation | environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="session")
def providers() -> dict[str, str]:
    """Where Terraform takes its providers from, as environment variables."""
    if Path(os.environ.get("TF_CLI_CONFIG_FILE", "")).is_file():
        return {}
    if STAND_IN.exists():
        folder = CACHE / "terraform-offline"
        if not (folder / "terraformrc").exists():
            versions = ("google=7.46.1", "google-beta=7.46.1", "random=3.9.1")
            done = subprocess.run([STAND_IN, folder, *versions], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"the stand-in providers could not be installed: {done.stderr.strip()[-200:]}")
        return {"TF_CLI_CONFIG_FILE": str(folder / "terraformrc")}
    cache = CACHE / "terraform-plugins"
    cache.mkdir(parents=True, exist_ok=True)
    return {"TF_PLUGIN_CACHE_DIR": str(cache)}


def initialized(stack: str, folder: Path, providers: dict[str, str]) -> Path:
    copy = folder / stack
    shutil.copytree(
        ROOT / "terraform" / stack, copy, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfplan")
    )
    (copy / "local_override.tf").write_text('terraform {\n  backend "local" {}\n}\n', encoding="utf-8")
    done = terraform(copy, "init", "-no-color", **providers)
    if "Failed to query available provider packages" in done.stderr:
        pytest.skip("Terraform's registry is out of reach and TF_CLI_CONFIG_FILE names no other source of providers")
    assert done.returncode == 0, done.stderr
    return copy


@pytest.fixture(scope="session")
def stacks(tmp_path_factory: pytest.TempPathFactory, providers: dict[str, str]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stacks")
    return {stack: initialized(stack, folder, providers) for stack in ("bootstrap", "app")}


@pytest.mark.parametrize("stack", ["bootstrap", "app"])
def test_stack_is_valid(stack: str, stacks: dict[str, Path], providers: dict[str, str]) -> None:
    done = terraform(stacks[stack], "validate", "-json", **providers)
    report = json.loads(done.stdout)
    assert report["valid"], report["diagnostics"]
    assert report["warning_count"] == 0, report["diagnostics"]


@pytest.mark.skipif("TERRAFORM_TESTS" not in os.environ, reason="takes a minute or two: make test-terraform runs it")
@pytest.mark.parametrize("stack", ["bootstrap", "app"])
def test_stack_is_what_its_own_tests_say(stack: str, stacks: dict[str, Path], providers: dict[str, str]) -> None:
    done = terraform(stacks[stack], "test", "-no-color", **providers)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def app(stacks: dict[str, Path], providers: dict[str, str]) -> Path:
    """The app stack as the stand-in providers would make it, with its state; they know of no image's digest."""
    launchers = stacks["app"].glob(".terraform/providers/*/hashicorp/google/*/*/terraform-provider-*")
    if any(launcher.stat().st_size > 10_000 for launcher in launchers):
        pytest.skip("the real providers are here: they make nothing without an account")
    images = stacks["app"] / "images.tf"
    images.write_text(images.read_text(encoding="utf-8").replace("@sha256:", ""), encoding="utf-8")
    done = terraform(stacks["app"], "apply", "-auto-approve", "-no-color", *variables(), **providers)
    assert done.returncode == 0, done.stderr
    return stacks["app"]


def variables(**changed: str) -> list[str]:
    values = {
        "project_id": "kotoe-test",
        "image_tag": "0123456789ab",
        "auth": "oidc",
        "oidc_client_id": "1234.apps.googleusercontent.com",
        "oidc_client_secret": CANARY,
        "users": '["user:a@example.com"]',
    }
    return [f"-var={name}={value}" for name, value in (values | changed).items()]


def planned(app: Path, providers: dict[str, str], **changed: str) -> dict[str, list[str]]:
    """What a plan would do to each resource; those it leaves alone are left out."""
    done = terraform(app, "plan", "-no-color", "-out=plan.tfplan", *variables(**changed), **providers)
    assert done.returncode == 0, done.stderr
    plan = json.loads(terraform(app, "show", "-json", "plan.tfplan", **providers).stdout)
    changes = {change["address"]: change["change"]["actions"] for change in plan["resource_changes"]}
    return {address: actions for address, actions in changes.items() if actions not in (["no-op"], ["read"])}


def test_second_apply_changes_nothing(app: Path, providers: dict[str, str]) -> None:
    assert planned(app, providers) == {}


def test_another_gpu_replaces_the_machine(app: Path, providers: dict[str, str]) -> None:
    assert planned(app, providers, gpu="a100")["google_compute_instance.backend[0]"] == ["delete", "create"]


def test_secrets_are_in_no_state(app: Path) -> None:
    text = (app / "terraform.tfstate").read_text(encoding="utf-8")
    instances = {
        resource["name"]: resource["instances"][0]["attributes"]
        for resource in json.loads(text)["resources"]
        if resource["type"] == "google_secret_manager_secret_version"
    }
    assert CANARY not in text
    assert not re.search(r'"[A-Za-z0-9]{48}"', text)  # as long as the token and the cookie's key are
    assert {name: values["secret_data_wo"] for name, values in instances.items()} == {"token": None, "oidc": None}
    assert not any(values["secret_data"] for values in instances.values())


def test_destroy_needs_neither_the_images_nor_the_options(app: Path, providers: dict[str, str]) -> None:
    copy = shutil.copytree(app, app.parent / "destroyed", symlinks=True)
    options = ("-auto-approve", "-no-color", "-refresh=false", "-var=project_id=kotoe-test", "-var=image_tag=0000000")
    done = terraform(copy, "destroy", *options, **providers)
    assert done.returncode == 0, done.stderr
    assert json.loads((copy / "terraform.tfstate").read_text(encoding="utf-8"))["resources"] == []


def test_nothing_is_made_in_a_project_that_nobody_named(stacks: dict[str, Path], providers: dict[str, str]) -> None:
    done = terraform(stacks["bootstrap"], "plan", "-no-color", **providers)
    assert done.returncode != 0
    assert 'variable "project_id"' in done.stderr


@pytest.mark.skipif(shutil.which("checkov") is None, reason="checkov is not installed")
def test_checkov_finds_nothing_that_is_not_explained() -> None:
    command = ["checkov", "--directory", "terraform", "--framework", "terraform", "--skip-download", "--output", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    results = json.loads(done.stdout)["results"]
    assert results["passed_checks"]
    assert not [(check["check_id"], check["resource"]) for check in results["failed_checks"]]
    assert all(check["check_result"]["suppress_comment"].strip() for check in results["skipped_checks"])
