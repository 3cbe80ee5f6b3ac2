from typing import Literal

import pytest

from backend_gpu.glide.config import NoiseSchedule
from tests.reference import (
    EMBEDDING,
    EMBEDDING_WIDTHS,
    FORWARD,
    FORWARD_CASES,
    KINDS,
    REFERENCE_SCHEDULES,
    RESPACINGS,
    RUNS,
    TABLE_RTOL,
    TRAJECTORY,
    Comparison,
    Kind,
    Tolerance,
    compare_embedding,
    compare_forward,
    compare_respacing,
    compare_schedule,
    compare_text,
    compare_trajectory,
)


def assert_close(comparison: Comparison, tolerance: Tolerance) -> None:
    assert comparison.is_within(tolerance), f"max {comparison.max_abs:.1e}, rms {comparison.rms_relative:.1e}"


@pytest.mark.parametrize(("kind", "case"), FORWARD_CASES)
def test_network_computes_what_the_reference_computes(kind: Kind, case: str) -> None:
    assert_close(compare_forward(kind, case), FORWARD)


@pytest.mark.parametrize("name", ["xf_out", "xf_proj"])
@pytest.mark.parametrize("kind", KINDS)
def test_text_is_read_as_the_reference_reads_it(kind: Kind, name: Literal["xf_out", "xf_proj"]) -> None:
    assert_close(compare_text(kind, name), FORWARD)


@pytest.mark.parametrize("name", RUNS)
def test_sampling_follows_the_trajectory_of_the_reference(name: str) -> None:
    assert_close(compare_trajectory(name), TRAJECTORY)


@pytest.mark.parametrize("width", EMBEDDING_WIDTHS)
def test_timestep_embedding_is_that_of_the_reference(width: int) -> None:
    assert_close(compare_embedding(width), EMBEDDING)


@pytest.mark.parametrize(("reference_name", "schedule"), REFERENCE_SCHEDULES)
def test_schedule_is_that_of_the_reference(reference_name: str, schedule: NoiseSchedule) -> None:
    assert compare_schedule(reference_name, schedule).max_relative <= TABLE_RTOL


@pytest.mark.parametrize("spacing", RESPACINGS)
@pytest.mark.parametrize(("reference_name", "schedule"), REFERENCE_SCHEDULES)
def test_visited_steps_have_the_variances_of_the_reference(
    reference_name: str, schedule: NoiseSchedule, spacing: int | Literal["fast27"]
) -> None:
    assert compare_respacing(reference_name, schedule, spacing).max_relative <= TABLE_RTOL
