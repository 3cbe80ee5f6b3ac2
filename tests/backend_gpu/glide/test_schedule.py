import math
from itertools import pairwise
from typing import Any, Literal, get_args

import pytest

from backend_gpu.glide.config import NoiseSchedule, PredictionType
from backend_gpu.glide.schedule import (
    Step,
    alpha_bar_at,
    alpha_bars,
    betas,
    half_log_snr,
    solver_timesteps,
    space_timesteps,
    steps_at,
)
from tests.reference import reference_json

NOISE_SCHEDULES: tuple[NoiseSchedule, ...] = get_args(NoiseSchedule)
PREDICTIONS: tuple[PredictionType, ...] = get_args(PredictionType)
REFERENCE = reference_json()


def spacings(kept: dict[str, Any]) -> dict[tuple[int, int | Literal["fast27"]], Any]:
    """What the reference says of "total|spec", without the specs that only it knows: sections and DDIM's strides."""
    calls = {tuple(call.split("|")): answer for call, answer in kept.items()}
    return {
        (int(total), "fast27" if spec == "fast27" else int(spec)): answer
        for (total, spec), answer in calls.items()
        if spec == "fast27" or spec.isdecimal()
    }


def test_squared_cosine_leaves_the_share_of_the_closed_form_until_the_cap() -> None:
    def signal(fraction: float) -> float:
        return math.cos((fraction + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [signal((t + 1) / 1000) / signal(0) for t in range(999)]
    assert alpha_bars("squared_cosine")[:999] == pytest.approx(expected, rel=1e-9)  # near the end the cosine cancels
    assert betas("squared_cosine")[999] == 0.999


def test_linear_schedule_has_the_published_ends() -> None:
    assert betas("linear")[0] == 1e-4
    assert betas("linear")[-1] == 0.02
    assert alpha_bars("linear")[-1] == pytest.approx(4.0358e-5, rel=1e-4)


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_alpha_bar_falls_from_one_timestep_to_the_next_fractions_included(name: NoiseSchedule) -> None:
    table = alpha_bars(name)
    shares = [alpha_bar_at(table, t / 7) for t in range(7 * 999 + 1)]
    assert all(later < earlier for earlier, later in pairwise(shares))


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_alpha_bar_at_an_integer_is_the_entry_of_the_table(name: NoiseSchedule) -> None:
    table = alpha_bars(name)
    assert [alpha_bar_at(table, float(t)) for t in range(1000)] == list(table)


def test_log_snr_is_linear_between_integers() -> None:
    table = alpha_bars("squared_cosine")
    between = half_log_snr(table[431]) + 0.25 * (half_log_snr(table[432]) - half_log_snr(table[431]))
    assert half_log_snr(alpha_bar_at(table, 431.25)) == pytest.approx(between, rel=1e-12)


@pytest.mark.parametrize("t", [-0.5, 999.5, 1000, math.nan])
def test_timestep_outside_the_schedule_is_refused(t: float) -> None:
    with pytest.raises(ValueError, match="outside 0 to 999"):
        alpha_bar_at(alpha_bars("linear"), t)


@pytest.mark.parametrize(("call", "timesteps"), spacings(REFERENCE["space_timesteps"]).items())
def test_re_spacing_keeps_the_timesteps_of_the_reference(
    call: tuple[int, int | Literal["fast27"]], timesteps: list[int]
) -> None:
    assert space_timesteps(*call) == timesteps


@pytest.mark.parametrize(("call", "error"), spacings(REFERENCE["space_timesteps_errors"]).items())
def test_re_spacing_refuses_what_the_reference_refuses(
    call: tuple[int, int | Literal["fast27"]], error: dict[str, Any]
) -> None:
    assert error["error"] == "ValueError"
    with pytest.raises(ValueError, match=error["message"]):
        space_timesteps(*call)


@pytest.mark.parametrize("count", [0, -3])
def test_re_spacing_to_nothing_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="cannot visit"):
        space_timesteps(1000, count)


@pytest.mark.parametrize(
    ("name", "spacing"),
    [("base_ancestral_cfg3", 10), ("inpaint_ancestral_cfg5", 8), ("super_res_ddim_fast27", "fast27")],
)
def test_network_is_called_with_the_timesteps_of_the_reference(name: str, spacing: int | Literal["fast27"]) -> None:
    steps = steps_at("linear", space_timesteps(1000, spacing))
    assert [step.t for step in steps] == REFERENCE["network_timesteps"][name]


def test_re_spacing_never_repeats_a_timestep() -> None:
    for count in range(1, 1001):
        timesteps = space_timesteps(1000, count)
        assert len(set(timesteps)) == count
        assert timesteps == sorted(timesteps)


@pytest.mark.parametrize("count", [1, 2, 8, 20, 999, 1000, 1500])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_solver_never_repeats_a_timestep(name: NoiseSchedule, prediction: PredictionType, count: int) -> None:
    timesteps = solver_timesteps(count, name, prediction)
    assert len(timesteps) == count
    assert all(later < earlier for earlier, later in pairwise(timesteps))
    assert steps_at(name, timesteps)[-1].alpha_bar_prev == 1


def test_solver_spaces_its_timesteps_evenly() -> None:
    assert solver_timesteps(4, "squared_cosine", "x_start") == [999, 749.25, 499.5, 249.75]


def test_solver_starts_where_eps_errors_are_bearable() -> None:
    for name in NOISE_SCHEDULES:
        start = steps_at(name, solver_timesteps(20, name, "eps"))[0]
        assert 1 / math.sqrt(start.alpha_bar) < 200


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_every_step_ends_where_the_next_one_starts(name: NoiseSchedule) -> None:
    steps = steps_at(name, [0, 37.5, 999, 400])
    assert [step.t for step in steps] == [999, 400, 37.5, 0]
    assert [step.alpha_bar_prev for step in steps] == [*(step.alpha_bar for step in steps[1:]), 1.0]


def test_repeated_timesteps_are_refused() -> None:
    with pytest.raises(ValueError, match="repeated"):
        steps_at("linear", [999, 500, 500, 0])


def test_no_timesteps_are_refused() -> None:
    with pytest.raises(ValueError, match="no timesteps"):
        steps_at("linear", [])
    with pytest.raises(ValueError, match="cannot visit 0 steps"):
        solver_timesteps(0, "linear", "eps")


@pytest.mark.parametrize(
    ("alpha_bar", "alpha_bar_prev"), [(0.0, 0.5), (0.5, 0.5), (0.6, 0.5), (0.5, 1.1), (math.nan, 1)]
)
def test_step_that_does_not_denoise_is_refused(alpha_bar: float, alpha_bar_prev: float) -> None:
    with pytest.raises(ValueError, match="a step can't go"):
        Step(t=0.0, alpha_bar=alpha_bar, alpha_bar_prev=alpha_bar_prev)
