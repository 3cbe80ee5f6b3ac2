"""`python -m terraform.deploy deploy` or `destroy`; the options come from the environment."""

import os
import sys
from datetime import datetime

from terraform.deploy.commands import Commands
from terraform.deploy.deploying import deploy
from terraform.deploy.destroying import destroy
from terraform.deploy.errors import CommandFailed, DeployError
from terraform.deploy.options import ROOT, read_options


def main(arguments: list[str]) -> int:
    """Run a command; 0 if all went well, 1 if not, 2 if it was not understood."""
    if arguments not in (["deploy"], ["destroy"]):
        print("usage: python -m terraform.deploy deploy|destroy", file=sys.stderr)
        return 2
    try:
        options = read_options(os.environ)
    except DeployError as error:
        print(error, file=sys.stderr)
        return 2
    log = ROOT / "out" / f"{arguments[0]}-{datetime.now().astimezone():%Y%m%dT%H%M%S}.log"
    log.parent.mkdir(exist_ok=True)
    commands = Commands(options.project, log)
    try:
        if arguments == ["deploy"]:
            url = deploy(commands, options)
            commands.say("done")
            print(url)
        else:
            print(destroy(commands, options))
    except CommandFailed as error:
        print(error.end, error, sep="\n", file=sys.stderr)
        return 1
    except DeployError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
