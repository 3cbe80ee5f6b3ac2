"""What can go wrong with the GPU machine, and which of it Google's answers mean."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing Google's client takes seconds; a page without a machine never needs it
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.compute_v1 import Operation

_QUOTA = re.compile(r"Quota '([^']+)' exceeded(?:.*?Limit: ([0-9]+(?:\.[0-9]+)?))?", re.DOTALL)
_PERMISSION = re.compile(r"Required '([^']+)' permission")


class GpuVmError(Exception):
    """The machine can't be asked or started; the text is Google's own, in English."""


class GpuVmUnreachable(GpuVmError):
    """Compute Engine didn't answer, or is too busy to: ask again."""


class GpuVmMissing(GpuVmError):
    """There is no machine of this name."""


class GpuVmBusy(GpuVmError):
    """The machine is changing and takes no order now."""


class GpuCredentialsMissing(GpuVmError):
    """This process has no Google account, or one that is no longer valid."""


class GpuPermissionMissing(GpuVmError):
    """The account may not do this; `permission` is empty where Google didn't name it."""

    def __init__(self, message: str, permission: str = "") -> None:
        super().__init__(message)
        self.permission = permission


class GpuQuotaMissing(GpuVmError):
    """The project may not run this GPU; `quota` is empty and `limit` None where Google didn't name them."""

    def __init__(self, message: str, quota: str = "", limit: float | None = None) -> None:
        super().__init__(message)
        self.quota = quota
        self.limit = limit


class GpuOutOfStock(GpuVmError):
    """The zone has no such GPU free; `zones_available` are zones that Google said have."""

    def __init__(self, message: str, zones_available: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.zones_available = zones_available


@contextmanager
def google_errors_as_ours() -> Iterator[None]:
    """Raise a GpuVmError for whatever Google's client, its login or the network below it raises."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.protobuf.json_format import ParseError  # type: ignore[import-untyped] # has no types
    from requests.exceptions import RequestException

    try:
        yield
    except GoogleAPICallError as error:
        raise _error_of(_refusal_of_call(error)) from error
    except (RequestException, TransportError, ParseError) as error:
        raise GpuVmUnreachable(str(error)) from error
    except GoogleAuthError as error:
        raise (GpuVmUnreachable if error.retryable else GpuCredentialsMissing)(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class _Refusal:
    """What Google said no with, in the answer to a call or in an operation that failed later."""

    message: str
    http_status: int
    reasons: tuple[str, ...]  # a call says quotaExceeded, an operation QUOTA_EXCEEDED
    facts: Mapping[str, str]

    def has_reason(self, part: str) -> bool:
        return any(part in reason.replace("_", "").lower() for reason in self.reasons)


def _refusal_of_call(error: "GoogleAPICallError") -> _Refusal:
    details = [detail for detail in error.details if isinstance(detail, dict)]
    reasons = [entry.get("reason", "") for entry in (*error.errors, *details)]
    facts = _merged(detail.get("metadatas") or detail.get("metadata") or {} for detail in details)
    return _Refusal(message=error.message, http_status=error.code or 0, reasons=tuple(reasons), facts=facts)


def failure_of(operation: "Operation") -> GpuVmError | None:
    """Why an operation failed; None if it did not."""
    errors = operation.error.errors
    if not errors:
        return None
    facts = _merged(detail.error_info.metadatas for error in errors for detail in error.error_details)
    return _error_of(
        _Refusal(
            message="; ".join(error.message or error.code for error in errors),
            http_status=operation.http_error_status_code,
            reasons=tuple(error.code for error in errors),
            facts=facts,
        )
    )


def _error_of(refusal: _Refusal) -> GpuVmError:
    message = refusal.message
    # Asked first: a stock-out comes with the status of an outage, a missing quota with that of a missing permission.
    if refusal.has_reason("resourcepoolexhausted") or "does not have enough resources available" in message:
        zones = refusal.facts.get("zonesAvailable", "").split(",")
        return GpuOutOfStock(message, tuple(zone.strip() for zone in zones if zone.strip()))
    if refusal.has_reason("ratelimitexceeded") or refusal.http_status == HTTPStatus.TOO_MANY_REQUESTS:
        return GpuVmUnreachable(message)
    if refusal.has_reason("quotaexceeded"):
        match = _QUOTA.search(message)
        quota, limit = match.groups() if match else ("", None)
        return GpuQuotaMissing(message, quota, None if limit is None else float(limit))
    if refusal.has_reason("resourcenotready"):
        return GpuVmBusy(message)
    match refusal.http_status:
        case HTTPStatus.UNAUTHORIZED:
            return GpuCredentialsMissing(message)
        case HTTPStatus.FORBIDDEN:
            missing = _PERMISSION.search(message)
            return GpuPermissionMissing(message, missing[1] if missing else "")
        case HTTPStatus.NOT_FOUND:
            return GpuVmMissing(message)
        case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return GpuVmUnreachable(message)
    return GpuVmError(message)


def _merged(mappings: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {key: value for mapping in mappings for key, value in mapping.items()}
