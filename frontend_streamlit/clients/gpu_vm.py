"""The GPU machine behind the page: where it is between asleep and ready, and how to wake it.

Nothing is remembered here between calls: a page that was refreshed, or opened elsewhere, sees the same.
"""

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from frontend_streamlit.clients.gpu_vm_errors import (
    GpuCredentialsMissing,
    GpuPermissionMissing,
    GpuVmBusy,
    GpuVmError,
    GpuVmMissing,
    GpuVmUnreachable,
    failure_of,
    google_errors_as_ours,
)
from frontend_streamlit.settings import parts_of_vm_name

if TYPE_CHECKING:  # importing Google's client takes seconds; a page without a machine never needs it
    from google.auth.credentials import Credentials
    from google.cloud.compute_v1 import Instance, InstancesClient, Operation, ZoneOperationsClient

logger = logging.getLogger(__name__)

TIMEOUT_S = 8.0  # of one state() or start(), all its calls together
FAILURE_IS_NEWS_S = 600.0  # a start that failed earlier than this says nothing about the next one
CLOCK_SKEW_S = 5.0  # between the machine, which dates its phases, and Google, which dates its start
MIN_CALL_TIMEOUT_S = 0.5  # loading Google's client, once, may have used up the time

_GUEST_ATTRIBUTES = "app/"
_PHASE_KEY = "phase"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class VmStatus(Enum):
    """Where the machine is."""

    ASLEEP = "asleep"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"  # can't be started before it is asleep
    UNKNOWN = "unknown"


class BootPhase(Enum):
    """How far a running machine has come: the words that it writes into its guest attribute `app/phase`."""

    BOOT = "boot"
    DRIVER = "driver"
    PULL = "pull"
    LOADING = "loading"
    READY = "ready"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class GpuVmState:
    """The machine at one moment.

    `phase` is None unless it runs, and where a running machine's phases can't be read: then only the backend knows.
    `elapsed_s` counts from its start. `failure` is why the last start came to nothing, while it is asleep.
    """

    status: VmStatus
    phase: BootPhase | None = None
    elapsed_s: float | None = None
    failure: GpuVmError | None = None


_STATUS_OF = {
    "PENDING": VmStatus.STARTING,
    "PROVISIONING": VmStatus.STARTING,
    "STAGING": VmStatus.STARTING,
    "RUNNING": VmStatus.RUNNING,
    "PENDING_STOP": VmStatus.STOPPING,
    "STOPPING": VmStatus.STOPPING,
    "SUSPENDING": VmStatus.STOPPING,
    "DEPROVISIONING": VmStatus.STOPPING,
    "STOPPED": VmStatus.ASLEEP,
    "SUSPENDED": VmStatus.ASLEEP,
    "TERMINATED": VmStatus.ASLEEP,
}


class GpuVm:
    """One machine, `projects/P/zones/Z/instances/N`; may be shared by threads.

    Args:
        name: what `FRONTEND_GPU_VM` says.
        endpoint: where Compute Engine answers, if not at Google's address.
        credentials: Google's application-default ones when left out.

    Raises: ValueError if the name is not of that form.
    """

    def __init__(
        self,
        name: str,
        *,
        endpoint: str | None = None,
        credentials: "Credentials | None" = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.project, self.zone, self.instance = parts_of_vm_name(name)
        self._endpoint = endpoint
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._warned: set[str] = set()

    def state(self) -> GpuVmState:
        """Ask where the machine is: two or three short calls.

        Raises: GpuVmError if it can't be asked; a start that failed is part of the state instead.
        """
        deadline = time.monotonic() + self._timeout_s
        return self._state_of(self._get(deadline), deadline)

    def start(self) -> GpuVmState:
        """Start the machine if it is asleep, don't wait for it, and return where it is now.

        A machine that is starting or running is left alone. One that is still stopping can't be started: call again.

        Raises: GpuVmError if it can't be asked or Google refuses at once; what fails later is part of the next `state`.
        """
        deadline = time.monotonic() + self._timeout_s
        instance = self._get(deadline)
        state = self._state_of(instance, deadline)
        if state.status is not VmStatus.ASLEEP:
            return state
        try:
            with google_errors_as_ours():
                order = self._instances.resume_unary if instance.status == "SUSPENDED" else self._instances.start_unary
                operation = order(request=self._address(), retry=None, timeout=_call_timeout_s(deadline))
        except GpuVmBusy:  # it reads as asleep a moment before it can be started again
            return GpuVmState(status=VmStatus.STOPPING)
        if failure := failure_of(operation):
            raise failure
        logger.info("the GPU machine was asked to start", extra={"instance": self.instance, "zone": self.zone})
        return GpuVmState(status=VmStatus.STARTING, elapsed_s=0.0)

    def _state_of(self, instance: "Instance", deadline: float) -> GpuVmState:
        now = datetime.now(UTC)
        status = _STATUS_OF.get(instance.status, VmStatus.UNKNOWN)
        if status is VmStatus.RUNNING:
            started_at = _start_of(instance)
            phase = self._phase(started_at, deadline)
            return GpuVmState(status=status, phase=phase, elapsed_s=_seconds(started_at, now))
        if status not in (VmStatus.ASLEEP, VmStatus.STARTING):
            return GpuVmState(status=status)

        last_start = self._last_start(instance, deadline)
        if last_start is not None and last_start.status.name != "DONE":
            return GpuVmState(status=VmStatus.STARTING, elapsed_s=_seconds(_moment(last_start.insert_time), now))
        if status is VmStatus.STARTING:
            return GpuVmState(status=status, elapsed_s=_seconds(_start_of(instance), now))
        if last_start is not None:
            age_s = _seconds(_moment(last_start.end_time or last_start.insert_time), now)
            if age_s is not None and age_s < FAILURE_IS_NEWS_S:
                return GpuVmState(status=status, failure=failure_of(last_start))
        return GpuVmState(status=status)

    def _get(self, deadline: float) -> "Instance":
        with google_errors_as_ours():
            return self._instances.get(request=self._address(), retry=None, timeout=_call_timeout_s(deadline))

    def _phase(self, started_at: datetime | None, deadline: float) -> BootPhase | None:
        """Read the guest attribute; what the run before this one left there counts as nothing."""
        request = self._address() | {"query_path": _GUEST_ATTRIBUTES}
        try:
            with google_errors_as_ours():
                attributes = self._instances.get_guest_attributes(
                    request=request, retry=None, timeout=_call_timeout_s(deadline)
                )
        except GpuVmMissing:  # of the attribute: nothing has been written yet
            return BootPhase.BOOT
        except (GpuVmUnreachable, GpuCredentialsMissing):
            raise
        except GpuVmError as error:  # no permission, or a policy of the organisation forbids guest attributes
            self._warn_once(f"the GPU machine's phases can't be read: {error}")
            return None

        values = [item.value for item in attributes.query_value.items if item.key == _PHASE_KEY]
        if not values:
            return BootPhase.BOOT
        try:
            word, written_at = values[0].split()
            phase, written_at_s = BootPhase(word), float(written_at)
        except ValueError:
            self._warn_once(f"the GPU machine wrote the phase {values[0]!r}, not a known word and a time in seconds")
            return None
        is_of_a_run_before = started_at is not None and written_at_s < started_at.timestamp() - CLOCK_SKEW_S
        return BootPhase.BOOT if is_of_a_run_before else phase

    def _last_start(self, instance: "Instance", deadline: float) -> "Operation | None":
        """Look up the operation that last started this machine, whoever asked for it."""
        # Operations name their target at www.googleapis.com, wherever the API itself was called.
        target = f"https://www.googleapis.com{urlsplit(instance.self_link).path}"
        request = {
            "project": self.project,
            "zone": self.zone,
            "filter": f'targetLink="{target}"',
            "order_by": "creationTimestamp desc",
        }
        try:
            with google_errors_as_ours():
                pager = self._operations.list(request=request, retry=None, timeout=_call_timeout_s(deadline))
                newest = next(iter(pager.pages)).items
        except GpuPermissionMissing as error:  # it can be started all the same
            self._warn_once(f"failed starts of the GPU machine go unnoticed: {error}")
            return None
        starts = [
            operation
            for operation in newest
            if operation.operation_type in ("start", "resume") and operation.target_id == instance.id
        ]
        return max(starts, key=lambda start: _moment(start.insert_time) or _LONG_AGO, default=None)

    def _address(self) -> dict[str, Any]:
        return {"project": self.project, "zone": self.zone, "instance": self.instance}

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            logger.warning(message, extra={"instance": self.instance, "zone": self.zone})

    @cached_property
    def _instances(self) -> "InstancesClient":
        from google.cloud.compute_v1 import InstancesClient

        return InstancesClient(credentials=self._credentials, client_options=self._client_options())

    @cached_property
    def _operations(self) -> "ZoneOperationsClient":
        from google.cloud.compute_v1 import ZoneOperationsClient

        return ZoneOperationsClient(credentials=self._credentials, client_options=self._client_options())

    def _client_options(self) -> Any:
        return {"api_endpoint": self._endpoint} if self._endpoint else None


def _call_timeout_s(deadline: float) -> float:
    # Connecting may take this long, and then reading the answer may, too.
    return max((deadline - time.monotonic()) / 2, MIN_CALL_TIMEOUT_S)


def _start_of(instance: "Instance") -> datetime | None:
    """When the present run began; while a machine starts, Google may still name the run before."""
    started_at, stopped_at = _moment(instance.last_start_timestamp), _moment(instance.last_stop_timestamp)
    return None if started_at and stopped_at and stopped_at > started_at else started_at


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _seconds(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else max((now - since).total_seconds(), 0.0)
