"""What has to be right before anything is made that costs money; each check fails with one sentence."""

import json
import os
import shutil
from collections.abc import Iterable
from typing import Any

from terraform.deploy.commands import Commands
from terraform.deploy.errors import CommandFailed, DeployError
from terraform.deploy.options import GPUS, Options

TERRAFORM_VERSION = (1, 11)
APIS = ("cloudresourcemanager", "compute", "iam", "serviceusage", "storage")  # Terraform switches on the others
CONSOLE = "https://console.cloud.google.com"


def check_tools(commands: Commands, options: Options) -> None:
    """The programs that deploy calls are installed, and Terraform is new enough."""
    tools = {
        "gcloud": "https://cloud.google.com/sdk/docs/install",
        "terraform": "https://developer.hashicorp.com/terraform/install",
        "git": "https://git-scm.com/downloads",
    }
    if options.builder == "docker":
        tools["docker"] = "https://docs.docker.com/engine/install"
    for tool, address in tools.items():
        if shutil.which(tool) is None:
            raise DeployError(f"{tool} is not installed: {address}")
    version = str(json.loads(commands.run("terraform", "version", "-json"))["terraform_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < TERRAFORM_VERSION:
        raise DeployError(f"terraform is {version}, and {'.'.join(map(str, TERRAFORM_VERSION))} or newer is needed")
    if options.builder == "docker" and not commands.succeeds("docker", "buildx", "version"):
        raise DeployError(
            "docker has no buildx: install it, or leave the building to the cloud (without BUILDER=docker)"
        )


def check_login(commands: Commands) -> str:
    """Gcloud's account, and Terraform's credentials, which are others; returns the account."""
    account = commands.run("gcloud", "auth", "list", "--filter=status:ACTIVE", "--format=value(account)").strip()
    if not account:
        raise DeployError("gcloud is not logged in: run gcloud auth login")
    given = {"GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT", "GOOGLE_OAUTH_ACCESS_TOKEN"}
    if not given & os.environ.keys() and not has_credentials(commands):
        raise DeployError("Terraform has no credentials: run gcloud auth application-default login")
    return account


def has_credentials(commands: Commands) -> bool:
    """Whether there are application-default credentials; the token must not get into the log."""
    return commands.succeeds("sh", "-c", "gcloud auth application-default print-access-token > /dev/null")


def check_project(commands: Commands, options: Options) -> None:
    """The project exists, and somebody pays for it."""
    project = options.project
    check_project_exists(commands, options)
    try:
        billing = commands.gcloud_json("billing", "projects", "describe", project)
    except CommandFailed as error:
        raise DeployError(f"whether {project} has a billing account can't be seen: {reason(error)}") from error
    if not billing.get("billingEnabled"):
        raise DeployError(
            f"{project} has no billing account: {CONSOLE}/billing/linkedaccount?project={project} links one"
        )


def check_project_exists(commands: Commands, options: Options) -> None:
    """The project exists; gcloud refuses to show one that does not as it does one that is somebody else's."""
    project = options.project
    try:
        exists = commands.has("projects", "describe", project)
    except CommandFailed as error:
        if "may not exist" not in error.output:
            raise DeployError(f"whether there is a project {project} can't be seen: {reason(error)}") from error
        exists = False
    if not exists:
        raise DeployError(f"there is no project {project}, or you may not see it: gcloud projects list shows yours")


def billing_account(commands: Commands, options: Options) -> str:
    """The id of the account that pays."""
    billing = commands.gcloud_json("billing", "projects", "describe", options.project)
    return str(billing["billingAccountName"]).removeprefix("billingAccounts/")


def check_sign_in(commands: Commands, options: Options) -> None:
    """Users will be able to sign in the way that was chosen."""
    if options.auth == "oidc":
        if not options.oidc_client_id or not options.oidc_client_secret:
            raise DeployError("AUTH=oidc needs OIDC_CLIENT_ID and OIDC_CLIENT_SECRET in the environment")
        if not all(user.startswith(("user:", "domain:")) for user in options.users):
            raise DeployError("AUTH=oidc takes only user: and domain: in USERS, since the page can't look into groups")
        return
    ancestors = commands.gcloud_json("projects", "get-ancestors", options.project)
    if not any(ancestor["type"] == "organization" for ancestor in ancestors):
        raise DeployError(f"{options.project} is in no organization, and IAP's own login needs one: take AUTH=oidc")


def switch_on_apis(commands: Commands, options: Options) -> None:
    """Those that the next checks and Terraform need; that costs nothing."""
    on = commands.gcloud("services", "list", "--enabled", "--format=value(config.name)").split()
    off = [f"{api}.googleapis.com" for api in APIS if f"{api}.googleapis.com" not in on]
    if off:
        try:
            commands.gcloud("services", "enable", *off)
        except CommandFailed as error:
            raise DeployError(f"{', '.join(off)} can't be switched on in {options.project}: {reason(error)}") from error


def find_zones(commands: Commands, options: Options) -> tuple[str, ...]:
    """The zones to try, in order: those asked for, or those of the region that have the machine."""
    gpu = GPUS[options.gpu]
    kind, name = ("accelerator-types", gpu["accelerator"]) if gpu["accelerator"] else ("machine-types", gpu["machine"])
    answer = commands.gcloud("compute", kind, "list", f"--filter=name={name}", "--format=value(zone.basename())")
    having = sorted(set(answer.split()))
    near = tuple(zone for zone in having if zone.startswith(f"{options.region}-"))
    if not near:
        others = ", ".join(sorted({zone.rpartition("-")[0] for zone in having})) or "no region that this project sees"
        raise DeployError(
            f"{options.region} has no {options.gpu}: set REGION to one that has it ({others}), or take another GPU"
        )
    for zone in options.zones:
        if zone not in near:
            raise DeployError(f"{zone} has no {options.gpu}; in {options.region} there are {', '.join(near)}")
    return options.zones or near


def check_cloud_run_region(options: Options) -> None:
    """Cloud Run has that GPU there."""
    place = GPUS[options.gpu]["cloud_run"]
    if place is None:
        having = ", ".join(gpu for gpu, row in GPUS.items() if row["cloud_run"])
        raise DeployError(f"Cloud Run has no {options.gpu}: with BACKEND=cloudrun, GPU is one of {having}")
    if place["regions"] and options.region not in place["regions"]:
        raise DeployError(
            f"Cloud Run has no {options.gpu} in {options.region}: set REGION to one of {', '.join(place['regions'])}"
        )


def check_quota(commands: Commands, options: Options) -> None:
    """The project may have one such GPU: worldwide, and in the region. New projects may not."""
    if options.gpu == "none":
        return
    everywhere = commands.gcloud_json("compute", "project-info", "describe")
    require_quota(everywhere["quotas"], "GPUS_ALL_REGIONS", options, "in all regions together")
    name = GPUS[options.gpu]["quota"]
    if name:  # of the others, Compute Engine does not show the region's quota
        regional = commands.gcloud_json("compute", "regions", "describe", options.region)
        name = f"PREEMPTIBLE_{name}" if options.spot or GPUS[options.gpu]["spot_only"] else name
        require_quota(regional["quotas"], name, options, f"in {options.region}")


def require_quota(quotas: Iterable[dict[str, Any]], name: str, options: Options, where: str) -> None:
    """The project may have one GPU or more by the quota of that name."""
    limit = next((float(quota["limit"]) for quota in quotas if quota["metric"] == name), 0.0)
    if limit < 1:
        raise DeployError(
            f"{options.project} may have no GPU of that kind {where}: its quota {name} is {limit:.0f}, ask for 1 at"
            f" {CONSOLE}/iam-admin/quotas?project={options.project} (search for {name.replace('_', '-')})"
        )


def reason(error: CommandFailed) -> str:
    """Why a program failed, in its own words: the line that it calls an error, else its last one."""
    lines = error.output.splitlines()
    errors = [line for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["it did not say why"])[-1].removeprefix("ERROR: ")
