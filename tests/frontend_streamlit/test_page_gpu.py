"""The page while the GPU machine sleeps, wakes, or can't; the machine is a fake one, the backend one on a socket."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from frontend_streamlit.clients import gpu_vm_errors as gpu
from frontend_streamlit.clients.backend import ERROR_OF
from frontend_streamlit.clients.gpu_vm import BootPhase, GpuVm, GpuVmState, VmStatus
from frontend_streamlit.state.waiting import MAX_WAITING, TooManyWait
from frontend_streamlit.texts.english import ENGLISH
from frontend_streamlit.texts.japanese import JAPANESE
from tests.frontend_streamlit.fake_backend import CUT, Answer, FakeBackend, job_document
from tests.frontend_streamlit.page import ME, OTHER, Page

APPLE, ENGLISH_APPLE = "青い背景に赤いりんご", "a red apple on a blue background"
ASLEEP = GpuVmState(status=VmStatus.ASLEEP)
STARTING = GpuVmState(status=VmStatus.STARTING, elapsed_s=5.0)


@dataclass
class FakeVm:
    """Is where it was told to be."""

    now: GpuVmState | gpu.GpuVmError = ASLEEP
    on_start: GpuVmState | gpu.GpuVmError = STARTING
    starts: int = 0
    asked: int = field(default=0)

    def state(self) -> GpuVmState:
        self.asked += 1
        return answered(self.now)

    def start(self) -> GpuVmState:
        self.starts += 1
        answer = answered(self.on_start)
        if answer.status is VmStatus.STARTING:
            self.now = answer
        return answer


def answered(answer: GpuVmState | gpu.GpuVmError) -> GpuVmState:
    if isinstance(answer, gpu.GpuVmError):
        raise answer
    return answer


def running(phase: BootPhase | None) -> GpuVmState:
    return GpuVmState(status=VmStatus.RUNNING, phase=phase, elapsed_s=83.0)


@pytest.fixture
def vm(page: Page, backend: FakeBackend) -> FakeVm:
    machine = FakeVm()
    page.change(gpu_vm=cast("GpuVm", machine))
    backend.answer_with(CUT)
    return machine


def wake_up(page: Page, backend: FakeBackend) -> None:
    backend.overrides.clear()
    page.forget_status()


def submitted(backend: FakeBackend) -> list[dict[str, Any]]:
    return [job["request"] for job in backend.jobs]


def stored_waiting(page: Page) -> dict[str, Any]:
    [stored] = page.stored.values()
    waiting: dict[str, Any] = stored["waiting"]
    return waiting


def test_a_machine_that_sleeps_is_told_and_left_asleep(page: Page, vm: FakeVm) -> None:
    assert JAPANESE.gpu_asleep in page.open().words
    assert not page.app.warning
    assert vm.starts == 0


def test_a_machine_that_somebody_else_wakes_is_told(page: Page, vm: FakeVm) -> None:
    vm.now = running(BootPhase.PULL)
    assert "プログラムを取り寄せています・1:23経過" in page.open().words


def test_a_backend_that_answers_leaves_the_machine_alone(page: Page, vm: FakeVm, backend: FakeBackend) -> None:
    wake_up(page, backend)
    page.open().draw()
    assert (vm.starts, vm.asked) == (0, 0)
    assert len(submitted(backend)) == 1


def test_drawing_wakes_the_machine_and_draws_by_itself_when_it_is_ready(
    page: Page, vm: FakeVm, backend: FakeBackend
) -> None:
    page.open().draw()
    assert vm.starts == 1
    assert "マシンを起こしています・0:05経過" in page.words
    assert APPLE in page.words
    for phase, words in (
        (BootPhase.BOOT, "マシンが起動しています"),
        (BootPhase.DRIVER, "GPU ドライバーを準備しています"),
        (BootPhase.PULL, "プログラムを取り寄せています"),
        (BootPhase.LOADING, "モデルを読み込んでいます"),
        (BootPhase.READY, "準備ができました"),
    ):
        vm.now = running(phase)
        assert f"{words}" in page.run().words
        assert "1:23経過" in page.words
    assert not submitted(backend)
    wake_up(page, backend)
    page.run()
    assert [request["prompt"] for request in submitted(backend)] == [ENGLISH_APPLE]
    assert "順番待ち" in page.words
    assert not stored_waiting(page)
    assert (page.prompt, vm.starts) == (APPLE, 1)
    page.run()
    assert len(submitted(backend)) == 1


def test_the_words_english_and_waiting_survive_a_refresh(page: Page, vm: FakeVm, backend: FakeBackend) -> None:
    page.open().write(APPLE).write_english("a blue apple").press("draw")
    vm.now = running(BootPhase.DRIVER)
    page.open()
    assert (page.prompt, page.english) == (APPLE, "a blue apple")
    assert "GPU ドライバーを準備しています・1:23経過" in page.words
    vm.now = running(BootPhase.READY)
    wake_up(page, backend)
    page.open()
    assert [request["prompt"] for request in submitted(backend)] == ["a blue apple"]


def test_two_tabs_that_wait_for_the_same_picture_make_one_job(page: Page, vm: FakeVm, backend: FakeBackend) -> None:
    page.open().draw()
    stored = deepcopy(page.stored)
    vm.now = running(BootPhase.READY)
    wake_up(page, backend)
    page.run()
    page.stored = stored
    page.open()
    assert len(backend.asked("POST", "/v1/jobs")) >= 2
    assert len(submitted(backend)) == 1


def test_a_link_of_another_owner_neither_draws_nor_wakes(page: Page, vm: FakeVm, backend: FakeBackend) -> None:
    page.open().draw()
    page.link["u"] = OTHER
    vm.now, vm.starts = ASLEEP, 0
    page.open()
    assert vm.starts == 0
    vm.now = running(BootPhase.READY)
    wake_up(page, backend)
    page.open()
    assert not submitted(backend)


def test_all_that_was_asked_for_while_the_machine_wakes_is_drawn_in_that_order(
    page: Page, vm: FakeVm, backend: FakeBackend
) -> None:
    page.open().draw("黒い猫").draw("白い犬")
    assert all(f"**{prompt}**" in page.words for prompt in ("黒い猫", "白い犬"))
    page.open().draw("赤いりんご")
    vm.now = running(BootPhase.READY)
    wake_up(page, backend)
    page.run()
    assert [request["source_prompt"] for request in submitted(backend)] == ["赤いりんご", "白い犬", "黒い猫"]
    assert not stored_waiting(page)


def test_the_same_words_once_more_wait_for_a_machine_that_has_fallen_asleep_too(
    page: Page, vm: FakeVm, backend: FakeBackend
) -> None:
    wake_up(page, backend)
    error = {"message": "…", "type": "server_error", "param": None, "code": "engine_crashed"}
    backend.jobs = [job_document(1, "failed", request={"owner": ME}, error=error)]
    page.open()
    backend.answer_with(CUT)
    page.press("again_")
    assert vm.starts == 1
    assert [request["prompt"] for request in stored_waiting(page).values()] == ["a red apple"]


@pytest.mark.usefixtures("vm")
def test_what_another_tab_waits_for_is_not_forgotten(page: Page) -> None:
    page.open().draw("黒い猫")
    first = page.app
    page.open().draw("白い犬")
    second, page.app = page.app, first
    page.run()
    assert len(stored_waiting(page)) == 2
    page.app = second
    page.press(f"give_up_{next(iter(stored_waiting(page)))}")
    assert [request["source_prompt"] for request in stored_waiting(page).values()] == ["白い犬"]


@pytest.mark.usefixtures("vm")
def test_only_so_many_wait_and_the_next_is_told_and_stays_in_its_field(page: Page) -> None:
    page.open().write(APPLE)
    for _ in range(MAX_WAITING):
        page.press("draw")
    assert not page.app.error
    page.press("draw")
    assert JAPANESE.errors[TooManyWait] in page.words
    assert len(stored_waiting(page)) == MAX_WAITING
    assert page.prompt == APPLE


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "queue_full"])
def test_what_the_backend_has_no_room_for_goes_on_waiting(
    page: Page, vm: FakeVm, backend: FakeBackend, code: str
) -> None:
    page.open().draw("黒い猫").draw("白い犬")
    vm.now = running(BootPhase.READY)
    wake_up(page, backend)
    backend.answer_with(Answer.error(429, code, Retry_After="40"), "/v1/jobs", "POST")
    assert JAPANESE.errors[ERROR_OF[code]] + "約40秒後に空きます。" in page.run().words
    assert len(stored_waiting(page)) == 2
    backend.overrides.clear()
    page.run()
    assert len(submitted(backend)) == 2


def test_what_waits_is_handed_in_while_the_gallery_is_looked_at(page: Page, vm: FakeVm, backend: FakeBackend) -> None:
    page.open().draw().go_to("gallery")
    assert "マシンを起こしています" in page.words
    vm.now = running(BootPhase.READY)
    wake_up(page, backend)
    page.run()
    assert len(submitted(backend)) == 1


def test_a_refresh_does_not_wake_a_machine_that_fell_asleep_again(page: Page, vm: FakeVm) -> None:
    page.open().draw()
    vm.now, vm.starts = ASLEEP, 0
    page.open()
    assert vm.starts == 0
    page.press("wake_gpu")
    assert vm.starts == 1


def test_waiting_can_be_given_up(page: Page, vm: FakeVm, backend: FakeBackend) -> None:
    page.open().draw().press("give_up_")
    assert not stored_waiting(page)
    assert page.prompt == APPLE
    vm.now = running(BootPhase.READY)
    wake_up(page, backend)
    page.run()
    assert not submitted(backend)


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (
            gpu.GpuOutOfStock("Google's words", ("us-central1-b", "us-central1-c")),
            "us\\-central1\\-b, us\\-central1\\-c",
        ),
        (gpu.GpuQuotaMissing("Google's words", "GPUS_ALL_REGIONS", 0.0), "GPUS\\_ALL\\_REGIONS"),
        (gpu.GpuPermissionMissing("Google's words", "compute.instances.start"), "compute\\.instances\\.start"),
        (gpu.GpuCredentialsMissing("Google's words"), ""),
        (gpu.GpuVmMissing("Google's words"), ""),
        (gpu.GpuVmUnreachable("Google's words"), ""),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("is_late", [False, True], ids=["at once", "later"])
def test_why_the_machine_does_not_start_is_told_and_it_can_be_tried_again(
    page: Page, vm: FakeVm, error: gpu.GpuVmError, detail: str, is_late: bool
) -> None:
    if is_late:
        page.open().draw()
        vm.now = GpuVmState(status=VmStatus.ASLEEP, failure=error)
        page.run()
    else:
        vm.on_start = error
        page.open().draw()
    assert [error.value for error in page.app.error] == [JAPANESE.errors[type(error)]]
    assert detail in page.words
    assert "Google's words" not in page.words
    assert page.prompt == APPLE
    vm.on_start, vm.starts = STARTING, 0
    page.press("wake_gpu")
    assert vm.starts == 1
    assert not page.app.error
    assert "マシンを起こしています" in page.words


def test_a_machine_that_is_still_stopping_is_started_once_it_has(page: Page, vm: FakeVm) -> None:
    vm.now = vm.on_start = GpuVmState(status=VmStatus.STOPPING)
    page.open().draw()
    assert "眠りにつくところです" in page.words
    vm.now, vm.on_start = ASLEEP, STARTING
    page.run()
    assert vm.starts == 2
    assert "マシンを起こしています" in page.run().words


def test_a_start_that_failed_half_way_is_told(page: Page, vm: FakeVm) -> None:
    page.open().draw()
    vm.now = running(BootPhase.ERROR)
    assert JAPANESE.gpu_failed in page.run().words
    assert page.has("wake_gpu")


def test_google_not_answering_is_told_and_asked_again(page: Page, vm: FakeVm) -> None:
    page.open().draw()
    vm.now = gpu.GpuVmUnreachable("no answer")
    assert JAPANESE.errors[gpu.GpuVmUnreachable] in page.run().words
    vm.now = running(BootPhase.LOADING)
    page.run()
    assert not page.app.error
    assert "モデルを読み込んでいます" in page.words


def test_a_machine_whose_phases_cant_be_read_is_tried_until_it_answers(
    page: Page, vm: FakeVm, backend: FakeBackend
) -> None:
    page.open().draw()
    vm.now = running(None)
    assert JAPANESE.gpu_phases[None] in page.run().words
    wake_up(page, backend)
    page.run()
    assert len(submitted(backend)) == 1


def test_a_model_that_still_loads_is_waited_for(page: Page, vm: FakeVm, backend: FakeBackend) -> None:
    page.open().draw()
    vm.now = running(BootPhase.READY)
    wake_up(page, backend)
    backend.answer_with(Answer.error(503, "model_loading"), "/v1/jobs", "POST")
    assert stored_waiting(page.run())
    wake_up(page, backend)
    assert not stored_waiting(page.run())
    assert len(submitted(backend)) == 1


def test_what_the_backend_refuses_after_all_is_told_and_waits_no_more(
    page: Page, vm: FakeVm, backend: FakeBackend
) -> None:
    page.open().draw()
    vm.now = running(BootPhase.READY)
    wake_up(page, backend)
    backend.answer_with(Answer.error(400, "invalid_prompt"), "/v1/jobs", "POST")
    page.run()
    assert f"**{APPLE}**: {JAPANESE.errors[ERROR_OF['invalid_prompt']]}" in page.words
    assert not stored_waiting(page)
    assert page.prompt == APPLE


def test_it_speaks_english_too(page: Page, vm: FakeVm) -> None:
    page.link["lang"] = "en"
    assert ENGLISH.gpu_asleep in page.open().words
    page.draw()
    vm.now = running(BootPhase.DRIVER)
    assert "Preparing the GPU driver · 1:23 so far" in page.run().words
