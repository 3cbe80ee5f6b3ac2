"""What ends a deployment."""


class DeployError(Exception):
    """The message is one clear sentence, for the user."""


SHOWN_LINES = 15


class CommandFailed(DeployError):
    """A program did not do what it was asked for."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output

    @property
    def end(self) -> str:
        """The last lines of what it said."""
        return "\n".join(self.output.splitlines()[-SHOWN_LINES:])
