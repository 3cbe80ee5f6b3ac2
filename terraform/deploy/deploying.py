"""`make deploy`, from the checks to the URL. Every step may be repeated."""

import re
from collections.abc import Sequence
from typing import Any

from terraform.deploy import checks
from terraform.deploy.commands import Commands
from terraform.deploy.errors import CommandFailed, DeployError
from terraform.deploy.images import build_missing, tag_of_tree
from terraform.deploy.machine import Machine
from terraform.deploy.options import Options
from terraform.deploy.stack import Stack

OUT_OF_STOCK = re.compile(
    r"ZONE_RESOURCE_POOL_EXHAUSTED|does not have enough resources|STOCKOUT|resource pool exhausted", re.IGNORECASE
)
OUT_OF_QUOTA = re.compile(r"Quota '?(\w+)'? exceeded.*", re.IGNORECASE)


def deploy(commands: Commands, options: Options) -> str:
    """Check, build and apply everything; returns the page's URL.

    Raises:
        DeployError: something is not as it must be, or a program failed.
    """
    commands.say(f"checking: tools, login, billing, sign-in, APIs, zones, quota ({commands.log} keeps all output)")
    account, zones = check(commands, options)
    variables = variables_of(commands, options, account)

    if not commands.has("storage", "buckets", "describe", options.state_bucket):
        commands.say(f"state: making {options.state_bucket}")
        make_state_bucket(commands, options)

    commands.say("bootstrap: APIs, registry, network, build account")
    bootstrap = Stack("bootstrap", commands, options)
    bootstrap.init()
    check_region(bootstrap.outputs(), options)
    bootstrap.apply({"project_id": options.project, "region": options.region})
    made = bootstrap.outputs()

    tag = tag_of_tree(commands, options)
    build_missing(commands, options, tag, {"account": made["build_account"], "bucket": made["build_bucket"]})

    app = Stack("app", commands, options)
    app.init()
    before = app.outputs()
    if not options.users and before.get("users"):
        variables["users"] = before["users"]  # not named again: they stay
    outputs = apply_app(app, variables | {"image_tag": tag}, zones_to_try(before, options, zones))

    backend = outputs["backend"]
    if backend["kind"] == "vm":
        Machine(backend["instance"], backend["zone"], commands).run_revision(backend["revision"])
    url = str(outputs["page_url"])
    if options.auth == "oidc":
        commands.say(f"the OAuth client must allow the redirect URI {url}/oauth2callback")
    return url


def check(commands: Commands, options: Options) -> tuple[str, tuple[str, ...]]:
    """All that can be known before anything costs money; returns the account and the zones to try.

    Raises:
        DeployError: one sentence on the first thing that is wrong.
    """
    checks.check_tools(commands, options)
    account = checks.check_login(commands)
    checks.check_project(commands, options)
    checks.check_sign_in(commands, options)
    if options.backend == "cloudrun":
        checks.check_cloud_run_region(options)
    checks.switch_on_apis(commands, options)
    if options.backend == "cloudrun":
        return account, (f"{options.region}-a",)  # of no machine
    zones = checks.find_zones(commands, options)
    checks.check_quota(commands, options)
    return account, zones


def variables_of(commands: Commands, options: Options, account: str) -> dict[str, Any]:
    """The app stack's variables that the options decide; others may stand in terraform/app/terraform.tfvars."""
    kind = "serviceAccount" if account.endswith(".gserviceaccount.com") else "user"
    variables: dict[str, Any] = {
        "project_id": options.project,
        "region": options.region,
        "backend": options.backend,
        "gpu": options.gpu,
        "spot": options.spot,
        "model": options.model,
        "translator": options.translator,
        "auth": options.auth,
    }
    variables["users"] = list(options.users) or [f"{kind}:{account}"]
    if options.auth == "oidc":
        variables["oidc_client_id"] = options.oidc_client_id
    if options.budget:
        variables["monthly_budget"] = options.budget
        variables["billing_account"] = checks.billing_account(commands, options)
    return variables


def make_state_bucket(commands: Commands, options: Options) -> None:
    """Make the state's bucket: closed, and with the versions that a broken state is restored from."""
    closed = ("--uniform-bucket-level-access", "--public-access-prevention")
    bucket = options.state_bucket
    commands.gcloud("storage", "buckets", "create", bucket, f"--location={options.region}", *closed)
    commands.gcloud("storage", "buckets", "update", bucket, "--versioning")


def check_region(outputs: dict[str, Any], options: Options) -> None:
    """Kotoe stays in its region: elsewhere all would be made anew, and the old subnet would be in the way.

    Raises:
        DeployError: the project has it in another region.
    """
    region = str(outputs.get("registry", options.registry)).partition("-docker.pkg.dev")[0]
    if region != options.region:
        raise DeployError(f"{options.project} has Kotoe in {region}: set REGION={region}, or run make destroy first")


def zones_to_try(outputs: dict[str, Any], options: Options, zones: Sequence[str]) -> list[str]:
    """The zones, beginning with the one where the machine is: elsewhere it would be made anew."""
    present = str(outputs.get("backend", {}).get("zone"))
    if options.zones or present not in zones:
        return list(zones)
    return [present, *(zone for zone in zones if zone != present)]


def apply_app(app: Stack, variables: dict[str, Any], zones: Sequence[str]) -> dict[str, Any]:
    """Apply in the first zone that has a machine left.

    Raises:
        DeployError: none has, or something else is wrong.
    """
    for zone in zones:
        app.commands.say(
            f"app: machine in {zone}, page, bucket" if app.options.backend == "vm" else "app: backend, page"
        )
        try:
            app.apply(variables | {"zone": zone}, secrets={"oidc_client_secret": app.options.oidc_client_secret})
        except CommandFailed as error:
            if quota := OUT_OF_QUOTA.search(error.output):
                link = f"{checks.CONSOLE}/iam-admin/quotas?project={app.options.project}"
                raise DeployError(f"{quota.group()} Ask for more at {link}") from error
            if not OUT_OF_STOCK.search(error.output):
                raise
            app.commands.say(f"{zone} has no {app.options.gpu} left at the moment")
        else:
            return app.outputs()
    raise DeployError(
        f"no {app.options.gpu} is left in {', '.join(zones)}: run it again later, or with another GPU or REGION"
        " (what was made so far costs next to nothing)"
    )
