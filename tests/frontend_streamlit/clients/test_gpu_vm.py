"""Google's own client against a small server on loopback that speaks the Compute Engine calls behind `GpuVm`."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.oauth2.credentials import Credentials

from frontend_streamlit.clients.gpu_vm import BootPhase, GpuVm, GpuVmState, VmStatus
from frontend_streamlit.clients.gpu_vm_errors import (
    GpuCredentialsMissing,
    GpuOutOfStock,
    GpuPermissionMissing,
    GpuQuotaMissing,
    GpuVmBusy,
    GpuVmError,
    GpuVmMissing,
    GpuVmUnreachable,
)
from tests.loopback import serving

NAME = "projects/kotoe-demo/zones/asia-northeast1-a/instances/gpu-backend"
PATH = f"/compute/v1/{NAME}"
OPERATIONS_PATH = "/compute/v1/projects/kotoe-demo/zones/asia-northeast1-a/operations"
TARGET = f"https://www.googleapis.com{PATH}"
INSTANCE_ID = "4916403162284897775"
TOKEN = "token-of-the-page"

STOCKOUT = {
    "code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
    "message": f"The zone '{NAME.split('/instances')[0]}' does not have enough resources available to fulfill the "
    "request.  '(resource type:compute)'.",
    "errorDetails": [
        {"help": {"links": [{"description": "Troubleshooting", "url": "https://cloud.google.com/compute"}]}},
        {"localizedMessage": {"locale": "en-US", "message": "A n1-standard-4 VM instance is currently unavailable."}},
        {
            "errorInfo": {
                "reason": "resource_availability",
                "domain": "compute.googleapis.com",
                "metadatas": {
                    "vmType": "n1-standard-4",
                    "zone": "asia-northeast1-a",
                    "zonesAvailable": "asia-northeast1-c, us-central1-b",
                },
            }
        },
    ],
}
QUOTA_MESSAGE = "Quota 'NVIDIA_T4_GPUS' exceeded.  Limit: 0.0 in region asia-northeast1."


def account(token: str) -> Credentials:
    return Credentials(token)  # type: ignore[no-untyped-call]  # google-auth has no types here


def google_time(age_s: float = 0.0) -> str:
    return datetime.fromtimestamp(time.time() - age_s, UTC).isoformat(timespec="milliseconds")


def error_body(status: int, message: str, reason: str) -> dict[str, Any]:
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return {"error": {"code": status, "message": message, "errors": errors}}


@dataclass
class Compute:
    """One machine in one zone, as Compute Engine would tell it; a test moves it along."""

    status: str = "TERMINATED"
    started_at: str = field(default_factory=lambda: google_time(5000))
    stopped_at: str = field(default_factory=lambda: google_time(4000))
    guest_attributes: dict[str, str] = field(default_factory=dict)
    operations: list[dict[str, Any]] = field(default_factory=list)
    refusals: dict[str, tuple[int, Any]] = field(default_factory=dict)  # by call
    delay_s: float = 0.0
    calls: list[str] = field(default_factory=list)
    endpoint: str = ""

    def add_operation(self, operation_type: str = "start", *, age_s: float = 0.0, **fields: Any) -> None:
        self.operations.append(
            {
                "kind": "compute#operation",
                "id": str(len(self.operations) + 1),
                "name": f"operation-{len(self.operations) + 1}",
                "operationType": operation_type,
                "targetId": INSTANCE_ID,
                "targetLink": TARGET,
                "status": "RUNNING",
                "insertTime": google_time(age_s),
            }
            | fields
        )

    def run(self, age_s: float = 0.0) -> None:
        self.status, self.started_at = "RUNNING", google_time(age_s)
        for operation in self.operations:
            operation.update(status="DONE", endTime=google_time())

    def write_phase(self, phase: str, age_s: float = 0.0) -> None:
        self.guest_attributes["phase"] = f"{phase} {int(time.time() - age_s)}"

    def fail_start(self, error: dict[str, Any], http_status: int, age_s: float = 0.0) -> None:
        """What a start that found no machine leaves behind: a failed operation, and a machine that is off as before."""
        self.status = "TERMINATED"
        self.operations[-1].update(
            status="DONE",
            insertTime=google_time(age_s + 30),
            endTime=google_time(age_s),
            httpErrorStatusCode=http_status,
            error={"errors": [error]},
        )

    def answer(self, method: str, url: str, headers: Any) -> tuple[int, Any]:
        parts = urlsplit(url)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        call = {
            ("GET", PATH): "get",
            ("POST", f"{PATH}/start"): "start",
            ("POST", f"{PATH}/resume"): "resume",
            ("GET", f"{PATH}/getGuestAttributes"): "getGuestAttributes",
            ("GET", OPERATIONS_PATH): "list",
        }.get((method, parts.path), f"{method} {url}")
        self.calls.append(call)
        time.sleep(self.delay_s)
        if call in self.refusals:
            return self.refusals[call]
        if headers["Authorization"] != f"Bearer {TOKEN}":
            return 401, error_body(401, "Request had invalid authentication credentials.", "authError")
        match call:
            case "get":
                return 200, self.instance()
            case "start" | "resume":
                self.add_operation(call)
                return 200, self.operations[-1]
            case "getGuestAttributes" if query.get("queryPath") == "app/":
                return self.guest_attributes_answer()
            case "list" if query.get("filter") == f'targetLink="{TARGET}"':
                assert query["orderBy"] == "creationTimestamp desc"
                return 200, {"kind": "compute#operationList", "items": self.operations[::-1]}
        return 501, error_body(501, f"this server doesn't know {method} {url}", "notImplemented")

    def instance(self) -> dict[str, Any]:
        return {
            "kind": "compute#instance",
            "id": INSTANCE_ID,
            "name": "gpu-backend",
            "selfLink": TARGET,
            "status": self.status,
            "lastStartTimestamp": self.started_at,
            "lastStopTimestamp": self.stopped_at,
            "somethingNewInTheApi": {"is": "ignored"},
        }

    def guest_attributes_answer(self) -> tuple[int, Any]:
        if not self.guest_attributes:
            return 404, error_body(404, "The resource 'app/' of type 'Guest Attribute' was not found.", "notFound")
        items = [{"namespace": "app", "key": key, "value": value} for key, value in self.guest_attributes.items()]
        return 200, {"kind": "compute#guestAttributes", "queryPath": "app/", "queryValue": {"items": items}}


@pytest.fixture
def compute(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compute]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    compute = Compute()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.respond()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.respond()

        def respond(self) -> None:
            status, answer = compute.answer(self.command, self.path, self.headers)
            body = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                pass  # a client that gave up waiting

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # as the base class names it
            pass

    with serving(Handler) as compute.endpoint:
        yield compute


def page(compute: Compute, *, timeout_s: float = 5.0) -> GpuVm:
    """Return what a page that has just been opened or refreshed uses."""
    return GpuVm(NAME, endpoint=compute.endpoint, credentials=account(TOKEN), timeout_s=timeout_s)


@pytest.fixture
def vm(compute: Compute) -> GpuVm:
    return page(compute)


@pytest.mark.parametrize(
    ("google_status", "status"),
    [
        ("TERMINATED", VmStatus.ASLEEP),
        ("STOPPED", VmStatus.ASLEEP),
        ("SUSPENDED", VmStatus.ASLEEP),
        ("PENDING_STOP", VmStatus.STOPPING),
        ("STOPPING", VmStatus.STOPPING),
        ("SUSPENDING", VmStatus.STOPPING),
        ("DEPROVISIONING", VmStatus.STOPPING),
        ("PENDING", VmStatus.STARTING),
        ("PROVISIONING", VmStatus.STARTING),
        ("STAGING", VmStatus.STARTING),
        ("RUNNING", VmStatus.RUNNING),
        ("REPAIRING", VmStatus.UNKNOWN),
        ("A_STATUS_OF_NEXT_YEAR", VmStatus.UNKNOWN),
    ],
)
def test_every_status_of_google_has_a_place(compute: Compute, vm: GpuVm, google_status: str, status: VmStatus) -> None:
    compute.status = google_status
    state = vm.state()
    assert state.status is status
    assert state.failure is None
    assert (state.phase is not None) == (status is VmStatus.RUNNING)


def test_from_asleep_to_ready_through_all_phases(compute: Compute, vm: GpuVm) -> None:
    assert vm.state() == GpuVmState(status=VmStatus.ASLEEP)
    assert vm.start() == GpuVmState(status=VmStatus.STARTING, elapsed_s=0.0)
    seen: list[VmStatus | BootPhase | None] = [vm.state().status]  # Google still says TERMINATED here
    for compute.status in ("PROVISIONING", "STAGING"):
        seen.append(vm.state().status)
    compute.run()
    seen.append(vm.state().phase)
    for phase in ("boot", "driver", "pull", "loading", "ready"):
        assert vm.state().phase is not BootPhase.READY
        compute.write_phase(phase)
        seen.append(vm.state().phase)
    assert seen == [
        *[VmStatus.STARTING] * 3,
        *[BootPhase.BOOT] * 2,
        BootPhase.DRIVER,
        BootPhase.PULL,
        BootPhase.LOADING,
        BootPhase.READY,
    ]
    assert vm.state().phase is BootPhase.READY


def test_a_machine_whose_boot_failed_says_so(compute: Compute, vm: GpuVm) -> None:
    compute.run()
    compute.write_phase("error")
    assert vm.state().phase is BootPhase.ERROR


def test_time_counts_from_the_order_and_then_from_the_start(compute: Compute, vm: GpuVm) -> None:
    compute.status = "STAGING"
    compute.add_operation(age_s=20)
    assert vm.state().elapsed_s == pytest.approx(20, abs=3)
    compute.run(age_s=90)
    assert vm.state().elapsed_s == pytest.approx(90, abs=3)


def test_a_machine_started_by_nobody_known_has_no_time_from_the_run_before(compute: Compute, vm: GpuVm) -> None:
    compute.status = "STAGING"  # Google still names the last start, and the stop after it
    assert vm.state() == GpuVmState(status=VmStatus.STARTING)


def test_ready_from_the_run_before_is_not_ready(compute: Compute, vm: GpuVm) -> None:
    compute.run(age_s=10)
    compute.write_phase("ready", age_s=60)
    assert vm.state().phase is BootPhase.BOOT


def test_a_clock_that_is_two_seconds_behind_does_no_harm(compute: Compute, vm: GpuVm) -> None:
    compute.run()
    compute.write_phase("driver", age_s=2)
    assert vm.state().phase is BootPhase.DRIVER


@pytest.mark.parametrize("value", ["dancing 1767225600", "ready", "ready soon", ""])
def test_a_phase_that_cannot_be_read_is_no_phase(compute: Compute, vm: GpuVm, value: str) -> None:
    compute.run()
    compute.guest_attributes["phase"] = value
    assert vm.state().phase is None


def test_other_guest_attributes_are_no_phase(compute: Compute, vm: GpuVm) -> None:
    compute.run()
    compute.guest_attributes["version"] = "7"
    assert vm.state().phase is BootPhase.BOOT


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, f"Required 'compute.instances.getGuestAttributes' permission for '{NAME}'"),
        (412, "Constraint constraints/compute.disableGuestAttributesAccess violated for project 1."),
    ],
)
def test_a_machine_whose_phases_are_hidden_still_runs(
    compute: Compute, vm: GpuVm, caplog: pytest.LogCaptureFixture, status: int, message: str
) -> None:
    compute.run(age_s=30)
    compute.refusals["getGuestAttributes"] = status, error_body(status, message, "forbidden")
    for _ in range(3):
        state = vm.state()
        assert (state.status, state.phase) == (VmStatus.RUNNING, None)
    assert state.elapsed_s == pytest.approx(30, abs=3)
    assert len([record for record in caplog.records if message in record.message]) == 1


def test_starting_twice_orders_once(compute: Compute, vm: GpuVm) -> None:
    vm.start()
    assert page(compute).start().status is VmStatus.STARTING
    compute.status = "PROVISIONING"
    assert vm.start().status is VmStatus.STARTING
    compute.run()
    compute.write_phase("ready")
    assert vm.start().phase is BootPhase.READY
    assert compute.calls.count("start") == 1


def test_a_suspended_machine_is_resumed(compute: Compute, vm: GpuVm) -> None:
    compute.status = "SUSPENDED"
    assert vm.start().status is VmStatus.STARTING
    assert "resume" in compute.calls
    assert "start" not in compute.calls
    assert vm.state().status is VmStatus.STARTING


def test_a_stopping_machine_starts_once_it_is_asleep(compute: Compute, vm: GpuVm) -> None:
    compute.status = "STOPPING"
    assert vm.start() == GpuVmState(status=VmStatus.STOPPING)
    assert "start" not in compute.calls
    compute.status = "TERMINATED"
    assert vm.start().status is VmStatus.STARTING


def test_a_machine_that_only_looks_asleep_is_still_stopping(compute: Compute, vm: GpuVm) -> None:
    compute.refusals["start"] = 400, error_body(400, f"The resource '{NAME}' is not ready", "resourceNotReady")
    assert vm.start() == GpuVmState(status=VmStatus.STOPPING)


@pytest.mark.parametrize("code", ["ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"])
def test_a_stockout_after_the_order_is_told_to_every_page(compute: Compute, vm: GpuVm, code: str) -> None:
    vm.start()
    compute.fail_start(STOCKOUT | {"code": code}, 503)
    for one_page in (vm, page(compute)):
        state = one_page.state()
        assert state.status is VmStatus.ASLEEP
        assert isinstance(state.failure, GpuOutOfStock)
        assert state.failure.zones_available == ("asia-northeast1-c", "us-central1-b")
        assert "does not have enough resources" in str(state.failure)


def test_a_stockout_without_advice_names_no_zones(compute: Compute, vm: GpuVm) -> None:
    vm.start()
    compute.fail_start({"code": STOCKOUT["code"], "message": STOCKOUT["message"]}, 503)
    failure = vm.state().failure
    assert isinstance(failure, GpuOutOfStock)
    assert failure.zones_available == ()


@pytest.mark.parametrize("reason", ["ZONE_RESOURCE_POOL_EXHAUSTED", "resourcePoolExhausted", "backendError"])
def test_a_stockout_at_the_order_is_raised(compute: Compute, vm: GpuVm, reason: str) -> None:
    body = error_body(503, str(STOCKOUT["message"]), reason)
    body["error"]["details"] = [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "resource_availability",
            "domain": "compute.googleapis.com",
            "metadata": {"zonesAvailable": "asia-northeast1-c"},
        }
    ]
    compute.refusals["start"] = 503, body
    with pytest.raises(GpuOutOfStock) as caught:
        vm.start()
    assert caught.value.zones_available == ("asia-northeast1-c",)


def test_a_start_that_failed_before_it_was_answered_is_raised(compute: Compute, vm: GpuVm) -> None:
    done = {"operationType": "start", "status": "DONE", "httpErrorStatusCode": 503, "error": {"errors": [STOCKOUT]}}
    compute.refusals["start"] = 200, done
    with pytest.raises(GpuOutOfStock):
        vm.start()


def test_a_missing_quota_after_the_order_is_told(compute: Compute, vm: GpuVm) -> None:
    vm.start()
    compute.fail_start({"code": "QUOTA_EXCEEDED", "message": QUOTA_MESSAGE}, 403)
    failure = page(compute).state().failure
    assert isinstance(failure, GpuQuotaMissing)
    assert (failure.quota, failure.limit) == ("NVIDIA_T4_GPUS", 0.0)


@pytest.mark.parametrize(
    ("message", "quota", "limit"),
    [
        ("Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 1.0 globally.", "GPUS_ALL_REGIONS", 1.0),
        ("Quota 'NVIDIA_L4_GPUS' exceeded.", "NVIDIA_L4_GPUS", None),
        ("No more of these.", "", None),
    ],
)
def test_a_missing_quota_at_the_order_is_raised(
    compute: Compute, vm: GpuVm, message: str, quota: str, limit: float | None
) -> None:
    compute.refusals["start"] = 403, error_body(403, message, "quotaExceeded")
    with pytest.raises(GpuQuotaMissing) as caught:
        vm.start()
    assert (caught.value.quota, caught.value.limit) == (quota, limit)


def test_any_other_failure_of_a_start_is_told_too(compute: Compute, vm: GpuVm) -> None:
    vm.start()
    compute.fail_start({"code": "INVALID_USAGE", "message": "The disk is in use elsewhere."}, 400)
    failure = vm.state().failure
    assert type(failure) is GpuVmError
    assert str(failure) == "The disk is in use elsewhere."


def test_a_start_refused_because_the_machine_was_changing_is_told(compute: Compute, vm: GpuVm) -> None:
    vm.start()
    compute.fail_start({"code": "RESOURCE_NOT_READY", "message": f"The resource '{NAME}' is not ready"}, 400)
    assert isinstance(vm.state().failure, GpuVmBusy)


def test_a_failure_is_forgotten_after_a_while(compute: Compute, vm: GpuVm) -> None:
    vm.start()
    compute.fail_start(STOCKOUT, 503, age_s=3600)
    assert vm.state() == GpuVmState(status=VmStatus.ASLEEP)


def test_a_new_order_replaces_the_failure_of_the_one_before(compute: Compute, vm: GpuVm) -> None:
    vm.start()
    compute.fail_start(STOCKOUT, 503, age_s=10)
    assert vm.start().status is VmStatus.STARTING
    assert vm.state().status is VmStatus.STARTING
    assert vm.state().failure is None
    compute.run()
    compute.status = "TERMINATED"  # idle for long enough
    assert vm.state() == GpuVmState(status=VmStatus.ASLEEP)


def test_failures_of_other_work_on_the_machine_are_no_failures_of_its_start(compute: Compute, vm: GpuVm) -> None:
    failed: dict[str, Any] = {"status": "DONE", "endTime": google_time(), "error": {"errors": [STOCKOUT]}}
    compute.add_operation("setMetadata", **failed)
    compute.add_operation("start", targetId="12", **failed)  # a machine of this name that was replaced since
    assert vm.state() == GpuVmState(status=VmStatus.ASLEEP)


def test_a_page_refreshed_in_the_middle_sees_the_same(compute: Compute, vm: GpuVm) -> None:
    vm.start()
    assert page(compute).state().status is vm.state().status is VmStatus.STARTING
    compute.run(age_s=40)
    compute.write_phase("pull")
    refreshed, same = page(compute).state(), vm.state()
    assert refreshed.phase is same.phase is BootPhase.PULL
    assert refreshed.elapsed_s == pytest.approx(same.elapsed_s, abs=1)


def test_a_page_that_may_not_read_operations_can_start_the_machine(
    compute: Compute, vm: GpuVm, caplog: pytest.LogCaptureFixture
) -> None:
    message = "Required 'compute.zoneOperations.list' permission for 'projects/kotoe-demo'"
    compute.refusals["list"] = 403, error_body(403, message, "forbidden")
    assert vm.state() == GpuVmState(status=VmStatus.ASLEEP)
    assert vm.start().status is VmStatus.STARTING
    compute.status = "STAGING"
    assert vm.state().status is VmStatus.STARTING
    assert len([record for record in caplog.records if message in record.message]) == 1


@pytest.mark.parametrize(
    ("call", "permission"), [("get", "compute.instances.get"), ("start", "compute.instances.start")]
)
def test_a_missing_permission_is_named(compute: Compute, vm: GpuVm, call: str, permission: str) -> None:
    compute.refusals[call] = 403, error_body(403, f"Required '{permission}' permission for '{NAME}'", "forbidden")
    with pytest.raises(GpuPermissionMissing) as caught:
        vm.start()
    assert caught.value.permission == permission


def test_a_permission_that_google_does_not_name_is_empty(compute: Compute, vm: GpuVm) -> None:
    message = "The user does not have access to service account 'backend@kotoe-demo.iam.gserviceaccount.com'."
    compute.refusals["start"] = 403, error_body(403, message, "forbidden")
    with pytest.raises(GpuPermissionMissing, match="does not have access to service account") as caught:
        vm.start()
    assert caught.value.permission == ""


def test_a_machine_that_does_not_exist_is_missing(compute: Compute, vm: GpuVm) -> None:
    compute.refusals["get"] = 404, error_body(404, f"The resource '{NAME}' was not found", "notFound")
    with pytest.raises(GpuVmMissing, match="gpu-backend"):
        vm.state()


@pytest.mark.parametrize("call", ["get", "getGuestAttributes"])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, error_body(403, "Rate Limit Exceeded", "rateLimitExceeded")),
        (429, error_body(429, "Quota exceeded for quota metric 'Guest attribute queries'", "RATE_LIMIT_EXCEEDED")),
        (500, error_body(500, "Internal error", "internalError")),
        (502, "<html>Bad Gateway</html>"),
        (503, error_body(503, "Service Unavailable", "backendError")),
        (200, "<html>Please log in to this network</html>"),
    ],
)
def test_google_being_busy_or_broken_is_unreachable(
    compute: Compute, vm: GpuVm, call: str, status: int, body: Any
) -> None:
    compute.run()
    compute.refusals[call] = status, body
    with pytest.raises(GpuVmUnreachable):
        vm.state()
    assert compute.calls.count(call) == 1  # the page asks again by itself


def test_an_answer_nobody_expects_is_an_error_of_ours(compute: Compute, vm: GpuVm) -> None:
    compute.refusals["get"] = 418, "I'm a teapot"
    with pytest.raises(GpuVmError, match="teapot"):
        vm.state()


def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(GpuVmUnreachable):
        GpuVm(NAME, endpoint=endpoint, credentials=account(TOKEN)).start()


def test_a_server_that_never_answers_is_given_up(compute: Compute) -> None:
    compute.delay_s = 10.0
    began = time.monotonic()
    with pytest.raises(GpuVmUnreachable):
        page(compute, timeout_s=0.3).state()
    assert time.monotonic() - began < compute.delay_s / 2


def test_an_account_that_google_rejects_has_no_credentials(compute: Compute) -> None:
    with pytest.raises(GpuCredentialsMissing):
        GpuVm(NAME, endpoint=compute.endpoint, credentials=account("expired")).state()


def test_a_process_without_an_account_has_no_credentials(compute: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    with pytest.raises(GpuCredentialsMissing):
        GpuVm(NAME, endpoint=compute.endpoint).state()
    assert not compute.calls


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gpu-backend",
        "projects/p/zones/z",
        f"{NAME}/",
        f" {NAME}",
        f"{NAME}\n",
        "projects//zones/z/instances/n",
        "projects/p/zones/z/instances/../../x",
        "projects/p/zones/z/instances/Upper",
        f"https://www.googleapis.com{PATH}",
    ],
)
def test_a_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not projects/PROJECT/zones/ZONE/instances/NAME") as caught:
        GpuVm(name)
    assert repr(name) in str(caught.value)


def test_a_name_has_its_parts() -> None:
    vm = GpuVm("projects/example.com:kotoe/zones/us-central1-a/instances/g")
    assert (vm.project, vm.zone, vm.instance) == ("example.com:kotoe", "us-central1-a", "g")


def test_a_page_without_a_machine_does_not_load_googles_client() -> None:
    code = (
        "import sys; from frontend_streamlit.clients.gpu_vm import GpuVm; "
        f"GpuVm({NAME!r}); sys.exit(any(name.startswith('google') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "importing gpu_vm loads Google's client"
