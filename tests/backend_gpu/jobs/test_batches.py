from typing import Any

import pytest

from backend_gpu.jobs.batches import NEWEST_SHARE, Place, Timings, choose_batch, chunk_sizes, places_of, plan_batches
from backend_gpu.jobs.job import Job
from backend_gpu.jobs.request import JobRequest
from tests.backend_gpu.fake_engine import STAGES
from tests.backend_gpu.jobs.conftest import a_request


def job(name: str, attempts: int = 0, **fields: Any) -> Job:
    return Job(id=name, request=a_request(**fields), status="queued", created_at=0.0, attempts=attempts)


def batch_key(request: JobRequest) -> str:
    return f"{request.model} {request.sampler} {request.steps_of(STAGES)}"


def names(jobs: list[Job]) -> str:
    return "".join(one.id for one in jobs)


# Which jobs run together


@pytest.mark.parametrize(
    "other",
    [{"steps": 11}, {"upsample_steps": 6}, {"sampler": "ddim"}, {"model": "glide"}, {"upscale": False}],
    ids=str,
)
def test_jobs_that_draw_otherwise_are_left_for_another_batch(other: dict[str, Any]) -> None:
    assert names(choose_batch([job("a"), job("b", **other), job("c")], 8, batch_key)) == "ac"


def test_whose_job_it_is_and_what_it_shows_does_not_matter() -> None:
    other: dict[str, Any] = {
        "owner": "ben",
        "prompt": "a blue dog",
        "negative_prompt": "red",
        "seed": 9,
        "guidance_scale": 9.0,
    }
    assert names(choose_batch([job("a"), job("b", **other)], 8, batch_key)) == "ab"


def test_upsampling_steps_do_not_matter_without_upscaling() -> None:
    waiting = [job("a", upscale=False, upsample_steps=1), job("b", upscale=False, upsample_steps=2)]
    assert names(choose_batch(waiting, 8, batch_key)) == "ab"


def test_a_batch_takes_what_fits_beside_its_first_job() -> None:
    waiting = [job("a", n=3), job("b", n=4), job("c", n=2), job("d", n=1)]
    assert names(choose_batch(waiting, 6, batch_key)) == "acd"


def test_a_job_larger_than_a_batch_is_one_alone() -> None:
    assert names(choose_batch([job("a", n=8), job("b")], 4, batch_key)) == "a"
    assert names(choose_batch([job("a"), job("b", n=8)], 4, batch_key)) == "a"


def test_a_job_that_went_down_with_the_process_runs_alone() -> None:
    waiting = [job("a", attempts=1), job("b"), job("c", attempts=1), job("d")]
    assert names(choose_batch(waiting, 8, batch_key)) == "a"
    assert names(choose_batch(waiting[1:], 8, batch_key)) == "bd"


def test_the_plan_takes_every_job_once_and_as_the_batches_will_come() -> None:
    waiting = [job("a", n=3), job("b", steps=11), job("c"), job("d", n=2), job("e", steps=11), job("f", attempts=1)]
    assert [names(batch) for batch in plan_batches(waiting, 4, batch_key)] == ["ac", "be", "d", "f"]
    assert plan_batches([], 4, batch_key) == []


@pytest.mark.parametrize(("pictures", "sizes"), [(1, [1]), (4, [4]), (5, [4, 1]), (8, [4, 4]), (11, [4, 4, 3])])
def test_a_batch_is_cut_into_full_chunks_and_a_rest(pictures: int, sizes: list[int]) -> None:
    assert chunk_sizes(pictures, max_pictures=4) == sizes


# How long they take


def test_nothing_is_expected_before_something_was_measured() -> None:
    assert Timings(STAGES, {}).seconds("base", 1) is None
    assert Timings(STAGES, {("upsample", 1): 2.0}).seconds("base", 1) is None


def test_the_expectation_follows_new_measurements_without_jumping() -> None:
    timings = Timings(STAGES, {("base", 1): 1.0})
    timings.note("base", 1, 2.0)
    assert timings.seconds("base", 1) == pytest.approx(1.0 + NEWEST_SHARE)
    for _ in range(20):
        timings.note("base", 1, 2.0)
    assert timings.seconds("base", 1) == pytest.approx(2.0, rel=1e-3)


def test_between_measured_sizes_the_cost_is_on_the_line_that_joins_them() -> None:
    timings = Timings(STAGES, {("base", size): 0.3 + 0.1 * size for size in (1, 4, 8)})
    assert [timings.seconds("base", size) for size in (1, 2, 4, 7, 8)] == pytest.approx([0.4, 0.5, 0.7, 1.0, 1.1])


def test_below_and_beyond_measured_sizes_the_cost_is_on_the_line_of_the_nearest_two() -> None:
    timings = Timings(STAGES, {("base", size): 0.3 + 0.1 * size for size in (3, 4, 6)})
    assert [timings.seconds("base", size) for size in (1, 2, 8)] == pytest.approx([0.4, 0.5, 1.1])


def test_from_one_measured_size_the_cost_is_proportional() -> None:
    timings = Timings(STAGES, {("base", 4): 2.0})
    assert [timings.seconds("base", size) for size in (1, 8)] == pytest.approx([0.5, 4.0])


@pytest.mark.parametrize(
    ("known", "expected"),
    [({4: 1.1, 5: 1.0}, {2: 1.1, 8: 1.0}), ({4: 1.0, 5: 3.0}, {2: 0.5, 8: 4.8})],
    ids=["the larger was faster", "the larger was slower per picture"],
)
def test_chance_in_two_measurements_is_not_carried_far(known: dict[int, float], expected: dict[int, float]) -> None:
    timings = Timings(STAGES, {("base", size): seconds for size, seconds in known.items()})
    assert {size: timings.seconds("base", size) for size in expected} == pytest.approx(expected)


def test_a_change_is_told_when_it_is_worth_it() -> None:
    reported: list[tuple[str, int, float]] = []
    timings = Timings(STAGES, {}, lambda *change: reported.append(change))
    timings.note("base", 2, 1.0)
    assert reported == [("base", 2, 1.0)]
    for _ in range(10):
        timings.note("base", 2, 1.05)  # nobody needs to know
    assert len(reported) == 1
    timings.note("base", 2, 2.0)
    assert reported[1:] == [("base", 2, timings.seconds("base", 2))]


def test_small_changes_are_told_when_they_have_added_up() -> None:
    reported: list[float] = []
    timings = Timings(STAGES, {("base", 1): 1.0}, lambda _stage, _pictures, seconds: reported.append(seconds))
    for seconds in (1.05, 1.1, 1.15, 1.2, 1.25, 1.3):
        timings.note("base", 1, seconds)
    assert len(reported) == 1
    assert reported[0] == pytest.approx(1.1, abs=0.03)


def test_a_batch_takes_its_steps_and_its_finish() -> None:
    timings = Timings(STAGES, {("base", 2): 0.1, ("upsample", 1): 0.5, ("finish", 1): 0.2})
    request = a_request(steps=20, upsample_steps=4)
    assert timings.of_batch([request], max_pictures=8) == pytest.approx(20 * 0.1 + 4 * 0.5 + 0.2)
    small = a_request(steps=20, upsample_steps=4, upscale=False)
    assert timings.of_batch([small], max_pictures=8) == pytest.approx(20 * 0.1 + 0.2)


def test_without_guidance_the_base_model_reads_half_as_much() -> None:
    timings = Timings(STAGES, {("base", 1): 0.1, ("base", 2): 0.2, ("base", 4): 0.4})
    plain, guided = (a_request(steps=10, upscale=False, guidance_scale=scale) for scale in (1, 3))
    assert timings.of_batch([plain], max_pictures=8) == pytest.approx(10 * 0.1)
    assert timings.of_batch([guided], max_pictures=8) == pytest.approx(10 * 0.2)
    assert timings.of_batch([plain, guided], max_pictures=8) == pytest.approx(10 * 0.4)


def test_a_batch_takes_as_long_as_its_chunks() -> None:
    timings = Timings(STAGES, {("base", 2): 0.1, ("base", 8): 0.2, ("upsample", 1): 0.5, ("upsample", 4): 0.6})
    requests = [a_request(steps=20, upsample_steps=4, n=n) for n in (5, 4)]
    full, rest = 20 * 0.2 + 4 * 0.6, 20 * 0.1 + 4 * 0.5
    assert timings.of_batch(requests, max_pictures=4) == pytest.approx(2 * full + rest)


def test_a_stage_that_was_never_measured_leaves_a_batch_unknown_if_it_is_needed() -> None:
    timings = Timings(STAGES, {("base", 1): 0.1})
    assert timings.of_batch([a_request()], max_pictures=8) is None
    assert timings.of_batch([a_request(upscale=False)], max_pictures=8) is not None


def test_a_place_tells_when_its_batch_ends_as_far_as_that_is_known() -> None:
    timings = Timings(STAGES, {("base", 2): 1.0, ("base", 4): 1.5, ("finish", 1): 0.0})
    waiting = [job("a", steps=2, upscale=False), job("b", steps=4, upscale=False), job("c", steps=2, upscale=False)]
    assert places_of(waiting, timings, 8, batch_key) == {"a": Place(1, 3.0), "b": Place(2, 7.0), "c": Place(3, 3.0)}
    unknown = [*waiting[:2], job("d"), job("e", steps=7)]
    assert [place.ends_s for place in places_of(unknown, timings, 8, batch_key).values()] == [2.0, 6.0, None, None]


def test_each_batch_goes_to_the_slot_that_is_free_first() -> None:
    timings = Timings(STAGES, {("base", 2): 1.0, ("finish", 1): 0.0})
    waiting = [job(name, steps=steps, upscale=False) for name, steps in (("a", 4), ("b", 6), ("c", 1), ("d", 2))]
    assert places_of(waiting, timings, 8, batch_key, rests_s=[5.0, 2.0]) == {
        "a": Place(1, 4.0, slot=1),  # from 2 s on
        "b": Place(2, 6.0, slot=0),  # from 5 s on
        "c": Place(3, 5.0, slot=1),  # from 6 s on
        "d": Place(4, 7.0, slot=1),  # from 7 s on
    }


def test_nothing_is_predicted_while_one_slot_has_work_of_unknown_length() -> None:
    timings = Timings(STAGES, {("base", 2): 1.0, ("finish", 1): 0.0})
    assert places_of([job("a", upscale=False)], timings, 8, batch_key, rests_s=[0.0, None]) == {"a": Place(1, None)}
