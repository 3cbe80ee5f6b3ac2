"""What can go wrong in the backend; no HTTP here."""


class BackendError(Exception):
    """Base of every error whose message is meant for the user."""


class InvalidRequest(BackendError):
    """The request can't be served as it is; the message names the value and the limit."""

    def __init__(self, message: str, param: str = "prompt") -> None:
        super().__init__(message)
        self.param = param  # the field at fault, where it is a request's


class BadParameter(InvalidRequest):
    """A field of the request has an impossible value."""


class TryLater(BackendError):
    """Base of what may be otherwise after some seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CheckpointError(BackendError):
    """Model weights are missing, broken or could not be fetched; the message says what to do."""


class ConceptTableError(BackendError):
    """A table of concepts can't be learned from; the message names the row."""


class JobNotFound(BackendError):
    """There is no such job, or no such picture of it."""


class ModelNotFound(BackendError):
    """There is no such model, or no such picture of it."""


class InvalidTransition(BackendError):
    """A job is not in the state that a change starts from."""


class QueueFull(TryLater):
    """No more jobs can be taken for now."""


class RateLimited(TryLater):
    """An owner has asked for as much as is allowed for now."""


class IdempotencyConflict(BackendError):
    """An idempotency key came again with another request."""


class ContentRefused(InvalidRequest):
    """The prompt has a term of the operator's blocklist."""


class ModelLoading(TryLater):
    """The model can't draw yet."""


class ServiceStopping(TryLater):
    """The service ends; what it has accepted waits for its next start."""


class StorageUnavailable(TryLater):
    """The data folder can't be used; nothing was accepted."""

    def __init__(self, message: str, retry_after_s: float = 30.0) -> None:  # somebody has to see to it
        super().__init__(message, retry_after_s)


class StorageDamaged(StorageUnavailable):
    """The queue's file is damaged; nothing was accepted."""


class GalleryUnavailable(BackendError):
    """The gallery does not answer or can't be written to."""


class OutOfMemory(BackendError):
    """The device's memory does not suffice for a batch."""
