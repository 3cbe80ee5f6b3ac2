"""Requests that wait for the GPU machine, and what became of waking it."""

import logging
import uuid
from dataclasses import dataclass, field
from typing import Any

from frontend_streamlit.clients import Clients
from frontend_streamlit.clients.backend import (
    BackendClient,
    BackendError,
    BackendUnavailable,
    JobRequest,
    LimitReached,
    ModelLoading,
    QueueFull,
)
from frontend_streamlit.clients.gpu_vm import BootPhase, GpuVm, GpuVmState, VmStatus
from frontend_streamlit.clients.gpu_vm_errors import GpuVmError
from frontend_streamlit.state.draft import valid

logger = logging.getLogger(__name__)

MAX_WAITING = 10  # requests for the GPU machine


class TooManyWait(Exception):
    """Nothing more can wait for the GPU machine."""


@dataclass(frozen=True)
class Pending:
    """A request that waits for the GPU machine, and the key that makes one job of it, however many tabs hand it in."""

    request: JobRequest
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass
class Waiting:
    """What waits for the GPU machine, oldest first."""

    requests: list[Pending] = field(default_factory=list)
    done: list[str] = field(default_factory=list)  # keys of what waits no more
    backend_error: BackendError | None = None  # why the machine, awake, does not take what waits yet
    refused: dict[str, BackendError] = field(default_factory=dict)  # after it had waited; by prompt
    gpu_error: GpuVmError | None = None  # why the machine could not be woken
    is_start_due: bool = False  # the machine can only be started once it has stopped

    def add(self, pending: Pending, gpu_vm: GpuVm) -> None:
        """Let a request wait, and wake the machine.

        Raises:
            TooManyWait: there is no more room.
        """
        if len(self.requests) >= MAX_WAITING:
            raise TooManyWait
        self.requests.append(pending)
        self.wake(gpu_vm)

    def remove(self, key: str) -> None:
        """A request waits no more."""
        self.requests = [pending for pending in self.requests if pending.key != key]
        self.done.append(key)
        if not self.requests:
            self.gpu_error, self.is_start_due = None, False

    def wake(self, gpu_vm: GpuVm) -> None:
        """Start the machine, now or once it has stopped; an error is for the page to show."""
        self.gpu_error = None
        try:
            self.is_start_due = gpu_vm.start().status is VmStatus.STOPPING
        except GpuVmError as error:
            logger.warning("the GPU machine could not be started: %s: %s", type(error).__name__, error)
            self.gpu_error, self.is_start_due = error, False

    def follow(self, clients: Clients, gpu_vm: GpuVm) -> GpuVmState:
        """Where the machine is; once it answers, what waits is handed in and waits no more.

        Raises:
            GpuVmError: it can't be asked.
        """
        state = gpu_vm.state()
        if state.status is VmStatus.ASLEEP and self.is_start_due:
            self.wake(gpu_vm)
        elif state.status is VmStatus.ASLEEP:
            self.gpu_error = self.gpu_error or state.failure
        elif state.status is VmStatus.RUNNING:
            self.gpu_error = None
            if state.phase in (BootPhase.READY, None):
                self.submit(clients.backend)
        return state

    def submit(self, backend: BackendClient) -> None:
        """Hand in what waits, oldest first, as far as the backend takes it."""
        self.backend_error = None
        for pending in list(self.requests):
            try:
                backend.submit(pending.request, pending.key)
            except (BackendUnavailable, ModelLoading):
                return
            except (QueueFull, LimitReached) as error:
                self.backend_error = error
                return
            except BackendError as error:
                self.refused[pending.request.source_prompt or pending.request.prompt] = error
            self.remove(pending.key)

    def to_store(self) -> dict[str, Any]:
        """The requests for the browser to store, by key; whose they are is not stored."""
        return {pending.key: pending.request.model_dump() | {"owner": ""} for pending in self.requests}

    def take_stored(self, stored: object, owner: str) -> None:
        """Go on waiting for what the browser stored."""
        known = {pending.key for pending in self.requests}
        self.requests += [pending for pending in read_waiting(stored, owner) if pending.key not in known]


def read_waiting(stored: object, owner: str) -> list[Pending]:
    """The requests in what a browser stored, oldest first, in the name of whoever visits now."""
    documents = stored.get("waiting") if isinstance(stored, dict) else None
    if not isinstance(documents, dict):
        return []
    requests = {key: valid(JobRequest, document) for key, document in documents.items()}
    return [
        Pending(request.model_copy(update={"owner": owner}), str(key)) for key, request in requests.items() if request
    ]
