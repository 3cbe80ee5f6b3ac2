"""`make destroy`: all that costs money goes at once; the subnet that Cloud Run still holds goes when it lets go."""

import re
import sys
import time
from collections.abc import Callable

from terraform.deploy import checks
from terraform.deploy.commands import Commands
from terraform.deploy.errors import CommandFailed, DeployError
from terraform.deploy.options import Options
from terraform.deploy.stack import Stack

IN_USE = re.compile(r"resourceInUseByAnotherResource|is already being used by|currently in use", re.IGNORECASE)
RETRY_S = 5 * 60.0
TIMEOUT_S = 3 * 3600.0


def destroy(commands: Commands, options: Options, sleep: Callable[[float], None] = time.sleep) -> str:
    """Remove everything that deploy made; returns a sentence on what is left.

    Raises:
        DeployError: something is not as it must be, a program failed, or the user said no.
    """
    checks.check_tools(commands, options)
    checks.check_login(commands)
    checks.check_project_exists(commands, options)
    if not commands.has("storage", "buckets", "describe", options.state_bucket):
        return f"There is nothing of Kotoe in {options.project}: {options.state_bucket} does not exist."
    confirm(options)

    commands.say("app: removing machine, page, pictures")
    app = Stack("app", commands, options)
    app.init()
    where = {"project_id": options.project, "region": options.region}
    app.destroy(where | {"zone": f"{options.region}-a", "image_tag": "0000000"})

    commands.say("bootstrap: removing images, build account, network")
    bootstrap = Stack("bootstrap", commands, options)
    bootstrap.init()
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            bootstrap.destroy(where)
            break
        except CommandFailed as error:
            if not IN_USE.search(error.output):
                raise
        if not options.wait:
            return (
                "All that costs money is gone. Cloud Run holds the page's subnet for an hour or two yet: run make"
                " destroy again then, or with WAIT=1 now, to remove the empty network and the state."
            )
        if time.monotonic() > deadline:
            raise DeployError("Cloud Run still holds the page's subnet: run make destroy again tomorrow")
        commands.say("Cloud Run still holds the page's subnet, which costs nothing: trying again in 5 minutes")
        sleep(RETRY_S)

    commands.say("state: removing its bucket")
    commands.gcloud("storage", "rm", "--recursive", "--all-versions", options.state_bucket)
    return f"Nothing of Kotoe is left in {options.project}."


def confirm(options: Options) -> None:
    """Ask once: pictures can't be brought back.

    Raises:
        DeployError: the answer is no, or nobody is there to answer.
    """
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise DeployError("make destroy deletes all pictures and asks first: say YES=1 where nobody can answer")
    print(f"This deletes Kotoe in {options.project}, gs://{options.project}-kotoe-gallery with all pictures included.")
    if input(f"To go on, type {options.project}: ").strip() != options.project:
        raise DeployError("nothing was deleted")
