"""One builder makes every request: what the caller chose, and the model's own choices."""

from dataclasses import replace
from typing import Any

import pytest

from backend_gpu.engine import EngineInfo, Guidance
from backend_gpu.errors import BadParameter
from backend_gpu.jobs.request import MAX_SEED, JobRequest, JobSubmission
from tests.backend_gpu.fake_engine import STAGES, FakeEngine

TWO_STAGES = FakeEngine.info
ONE_STAGE = EngineInfo(model="one", stages=(replace(STAGES[0], side=96, steps=30),), samplers=("heun",))

ALWAYS_GUIDED = replace(TWO_STAGES, guidance=Guidance(default=4.0, least=2.0))


def request_of(info: EngineInfo, **choices: Any) -> JobRequest:
    return JobRequest.of(JobSubmission(prompt="a cat", **choices), info)


def test_where_the_caller_chose_nothing_the_model_does() -> None:
    request = request_of(TWO_STAGES, seed=7)
    assert request == JobRequest(
        prompt="a cat",
        owner="anonymous",
        seed=7,
        n=1,
        guidance_scale=2.5,
        steps=10,
        upsample_steps=4,
        sampler="dpmpp_2m",
        upscale=True,
        model="kotoe-mini",
    )
    assert request.steps_of(STAGES) == {"base": 10, "upsample": 4}
    one = request_of(ONE_STAGE)
    assert (one.steps, one.upsample_steps, one.sampler, one.guidance_scale) == (30, None, "heun", 1.0)


def test_what_the_caller_chose_stays() -> None:
    choices: dict[str, Any] = {
        "source_prompt": "猫",
        "translator": "offline",
        "negative_prompt": "a dog",
        "n": 3,
        "seed": 9,
        "guidance_scale": 4.5,
        "steps": 3,
        "upsample_steps": 2,
        "sampler": "ddim",
        "upscale": False,
        "owner": "taro",
        "model": "kotoe-mini",
    }
    request = request_of(TWO_STAGES, **choices)
    assert request.to_json() == choices | {"prompt": "a cat"}
    assert request.steps_of(STAGES) == {"base": 3}
    assert JobRequest.from_json(JobSubmission(**request.to_json()).model_dump_json()) == request


def test_seeds_that_nobody_chose_differ() -> None:
    seeds = {request_of(TWO_STAGES, seed=wish).seed for wish in (None, -1, None, -1)}
    assert len(seeds) == 4
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


def test_a_model_of_one_stage_draws_it_with_or_without_upscaling() -> None:
    assert request_of(ONE_STAGE, upscale=False).steps_of(ONE_STAGE.stages) == {"base": 30}


@pytest.mark.parametrize(
    ("info", "choices", "param"),
    [
        (TWO_STAGES, {"model": "glide"}, "model"),
        (TWO_STAGES, {"sampler": "euler"}, "sampler"),
        (TWO_STAGES, {"guidance_scale": 20.5}, "guidance_scale"),
        (ALWAYS_GUIDED, {"guidance_scale": 1}, "guidance_scale"),
        (ONE_STAGE, {"sampler": "ddim"}, "sampler"),
        (ONE_STAGE, {"guidance_scale": 2}, "guidance_scale"),
        (ONE_STAGE, {"negative_prompt": "a dog"}, "negative_prompt"),
        (ONE_STAGE, {"upsample_steps": 3}, "upsample_steps"),
    ],
)
def test_what_a_model_does_not_take_is_refused_by_name(info: EngineInfo, choices: dict[str, Any], param: str) -> None:
    with pytest.raises(BadParameter, match=info.model if param != "guidance_scale" else param) as caught:
        request_of(info, **choices)
    assert caught.value.param == param


def test_no_guidance_is_what_a_model_without_it_takes() -> None:
    assert request_of(ONE_STAGE, guidance_scale=1).guidance_scale == 1.0
