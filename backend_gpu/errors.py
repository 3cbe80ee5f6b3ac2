"""What can go wrong in the backend; no HTTP here."""


class BackendError(Exception):
    """Base of every error whose message is meant for the user."""


class InvalidRequest(BackendError):
    """The request can't be served as it is; the message names the value and the limit."""


class CheckpointError(BackendError):
    """Model weights are missing, broken or could not be fetched; the message says what to do."""
