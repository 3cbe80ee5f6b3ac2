import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from backend_gpu.glide.config import NoiseSchedule
from backend_gpu.glide.samplers import (
    DenoisingModel,
    DrawNoise,
    Prediction,
    SamplingRun,
    Trajectory,
    clip,
    keeping_known,
    last_sample,
    sample_ddim,
    sample_ddpm,
    sample_dpmpp_2m,
)
from backend_gpu.glide.schedule import Step, alpha_bar_at, alpha_bars, half_log_snr, space_timesteps, steps_at
from tests.reference import load_case

Sampler = Callable[[DenoisingModel, SamplingRun, DrawNoise], Trajectory]


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def noises_like(noise: Tensor, seed: int = 1) -> DrawNoise:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(noise.shape, generator=generator, dtype=noise.dtype)


SAMPLERS: dict[str, Sampler] = {
    "ddpm": sample_ddpm,
    "ddim": lambda model, run, _: sample_ddim(model, run),
    "dpmpp_2m": lambda model, run, _: sample_dpmpp_2m(model, run),
}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())


def unconstrained(x_start: Tensor) -> Tensor:
    return x_start


def predicting(x_start_of: Callable[[Tensor, float], Tensor], name: NoiseSchedule) -> DenoisingModel:
    """A network that finds x_start = x_start_of(x_t, alpha_bar) and says the eps that belongs to it."""
    table = alpha_bars(name)

    def model(x_t: Tensor, t: float) -> Prediction:
        alpha_bar = alpha_bar_at(table, t)
        eps = (x_t - math.sqrt(alpha_bar) * x_start_of(x_t, alpha_bar)) / math.sqrt(1 - alpha_bar)
        return Prediction(eps, torch.zeros_like(x_t))

    return model


def knowing(picture: Tensor, name: NoiseSchedule) -> DenoisingModel:
    return predicting(lambda _x_t, _alpha_bar: picture, name)


def for_gaussian_data(mean: float, std: float, name: NoiseSchedule, variance_mix: float = 0.0) -> DenoisingModel:
    """The best possible network when all pixels are independent N(mean, std^2): its x_start is the posterior mean."""

    def x_start_of(x_t: Tensor, alpha_bar: float) -> Tensor:
        gain = math.sqrt(alpha_bar) * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)
        return mean + gain * (x_t - math.sqrt(alpha_bar) * mean)

    model = predicting(x_start_of, name)
    return lambda x_t, t: Prediction(model(x_t, t).eps, torch.full_like(x_t, variance_mix))


@every_sampler
@pytest.mark.parametrize(
    ("name", "timesteps"),
    [
        ("squared_cosine", [float(t) for t in space_timesteps(1000, 10)]),  # from 999, where alpha_bar is 2.4e-9
        ("linear", [float(t) for t in space_timesteps(1000, "fast27")]),
        ("squared_cosine", [993.0, 612.5, 80.25]),
        ("squared_cosine", [500.0]),
    ],
)
def test_sampler_recovers_the_picture_a_perfect_model_knows(
    sampler: Sampler, name: NoiseSchedule, timesteps: list[float]
) -> None:
    picture = gaussian(2, 3, 4, 4, seed=3).clamp(-1, 1)
    run = SamplingRun(noise=gaussian(2, 3, 4, 4), steps=steps_at(name, timesteps))
    found = last_sample(sampler(knowing(picture, name), run, noises_like(run.noise)))
    assert torch.allclose(found, picture, rtol=0, atol=1e-5)  # float32 rounding of x_t, over sqrt(alpha_bar) > 0.5
    assert found.dtype == torch.float32


def solver_error(sampler: Sampler, count: int) -> float:
    """Of `count` steps from lambda = -2 to 2 on Gaussian data, against the exact solution of the ODE, in float64."""
    mean, std = 0.3, 0.1  # narrow data: no two terms of the error cancel
    name: NoiseSchedule = "linear"
    alphas = [1 / (1 + math.exp(-2 * (-2 + 4 * index / count))) for index in range(count + 1)]
    steps = [Step(t=t, alpha_bar=start, alpha_bar_prev=end) for t, (start, end) in enumerate(pairwise(alphas))]
    exact = for_gaussian_data(mean, std, name)
    table = alpha_bars(name)
    at_level = {step.t: timestep_of(table, step.alpha_bar) for step in steps}
    noise = gaussian(1, 3, 8, 8, dtype=torch.float64)
    run = SamplingRun(noise=noise, steps=steps, constrain=unconstrained)
    found = last_sample(sampler(lambda x_t, t: exact(x_t, at_level[t]), run, noises_like(noise)))

    def standardised(x: Tensor, alpha_bar: float) -> Tensor:  # the ODE keeps this
        return (x - math.sqrt(alpha_bar) * mean) / math.sqrt(alpha_bar * std**2 + 1 - alpha_bar)

    return float((standardised(found, alphas[-1]) - standardised(noise, alphas[0])).abs().max())


def timestep_of(table: tuple[float, ...], alpha_bar: float) -> float:
    below = max(t for t, share in enumerate(table) if share >= alpha_bar)
    start, end = half_log_snr(table[below]), half_log_snr(table[below + 1])
    return below + (half_log_snr(alpha_bar) - start) / (end - start)


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpmpp_2m", 2)])
def test_solver_converges_with_its_order(name: str, order: int) -> None:
    errors = [solver_error(SAMPLERS[name], count) for count in (40, 80, 160)]
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert orders == pytest.approx([order, order], abs=0.1)  # the next order of h = 0.1 still shows
    assert errors[-1] < 0.01  # of pixels with unit variance


@pytest.mark.parametrize("variance_mix", [-1.0, 1.0], ids=["posterior", "beta"])
def test_ddpm_reproduces_mean_and_variance_of_the_data(variance_mix: float) -> None:
    mean, std = 0.2, 0.3
    run = SamplingRun(
        noise=gaussian(4, 1, 128, 128), steps=steps_at("squared_cosine", range(1000)), constrain=unconstrained
    )
    model = for_gaussian_data(mean, std, "squared_cosine", variance_mix)
    found = last_sample(sample_ddpm(model, run, noises_like(run.noise)))
    # 65536 pixels: standard errors are 0.0012 of the mean and 0.3 % of the std; 1000 steps are within 1 % of the limit
    assert float(found.mean()) == pytest.approx(mean, abs=0.006)
    assert float(found.std()) == pytest.approx(std, rel=0.02)


def test_first_and_last_step_of_dpmpp_2m_are_those_of_ddim() -> None:
    model = for_gaussian_data(0.2, 0.3, "linear")
    noise = gaussian(2, 3, 4, 4, dtype=torch.float64)
    run = SamplingRun(noise=noise, steps=steps_at("linear", [900.0, 300.0]))
    torch.testing.assert_close(last_sample(sample_dpmpp_2m(model, run)), last_sample(sample_ddim(model, run)))


@pytest.mark.parametrize("is_clipped", [True, False])
@pytest.mark.parametrize("row", range(5))
def test_ancestral_step_is_that_of_the_reference(row: int, is_clipped: bool) -> None:
    given = load_case("diffusion", "p_mean_variance")
    index = int(given["t_index"][row])
    step = steps_at("squared_cosine", space_timesteps(1000, 100))[::-1][index]
    assert step.t == int(given["t_given_to_model"][row])
    run = SamplingRun(noise=given["x"][row : row + 1], steps=[step], constrain=clip if is_clipped else unconstrained)

    def model(*_: object) -> Prediction:
        eps, variance_mix = given["model_output"][row : row + 1].chunk(2, 1)
        return Prediction(eps, variance_mix)

    ((_, estimate),) = sample_ddpm(model, run, lambda: torch.zeros(1, 3, 8, 8))
    mean = last_sample(sample_ddpm(model, run, lambda: torch.zeros(1, 3, 8, 8)))
    above = last_sample(sample_ddpm(model, run, lambda: torch.ones(1, 3, 8, 8)))
    expected = {name: given[f"clip{int(is_clipped)}.{name}"][row] for name in ("mean", "variance", "pred_xstart")}

    rounding = 2.0**-22 * float(run.noise.abs().max()) / math.sqrt(step.alpha_bar)  # of both terms of x_start
    assert float((estimate[0] - expected["pred_xstart"]).abs().max()) <= rounding
    assert float((mean[0] - expected["mean"]).abs().max()) <= 2e-6 * float(expected["mean"].abs().max())
    if index > 0:  # the reference has a variance for the last step too, and no use for it
        std = expected["variance"].sqrt()
        rounding = 2.0**-22 * float(expected["mean"].abs().max() + std.max())  # of the mean, subtracted again
        assert float(((above - mean)[0] - std).abs().max()) <= rounding


@every_sampler
def test_picture_does_not_depend_on_its_batch_mates(sampler: Sampler) -> None:
    def model(x_t: Tensor, t: float) -> Prediction:
        return Prediction(torch.sin(3 * x_t + t), torch.cos(x_t))

    def sample(*seeds: int) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]

        def draw_noise() -> Tensor:
            return torch.stack([torch.randn(3, 4, 4, generator=generator) for generator in generators])

        steps = steps_at("squared_cosine", space_timesteps(1000, 8))
        return last_sample(sampler(model, SamplingRun(noise=draw_noise(), steps=steps), draw_noise))

    assert torch.equal(sample(7)[0], sample(5, 6, 7, 8)[2])


@every_sampler
def test_sampler_reports_every_step_and_ends_at_the_last_estimate(sampler: Sampler) -> None:
    run = SamplingRun(noise=gaussian(1, 3, 4, 4), steps=steps_at("squared_cosine", space_timesteps(1000, 5)))

    def sample() -> Trajectory:
        return sampler(for_gaussian_data(0.0, 0.5, "squared_cosine"), run, noises_like(run.noise))

    reports = list(sample())
    assert [done for done, _ in reports] == [1, 2, 3, 4, 5]
    assert torch.equal(reports[-1][1], last_sample(sample()))


@every_sampler
def test_a_sampler_takes_no_step_before_it_is_asked_for(sampler: Sampler) -> None:
    called_at: list[float] = []

    def model(x_t: Tensor, t: float) -> Prediction:
        called_at.append(t)
        return Prediction(x_t, x_t)

    run = SamplingRun(noise=gaussian(1, 3, 4, 4), steps=steps_at("linear", space_timesteps(1000, 10)))
    trajectory = sampler(model, run, noises_like(run.noise))
    assert called_at == []
    next(trajectory)
    next(trajectory)
    trajectory.close()
    assert called_at == [999, 888]


@every_sampler
def test_picture_stays_in_range_whatever_the_network_says(sampler: Sampler) -> None:
    def model(x_t: Tensor, t: float) -> Prediction:
        return Prediction(50 * torch.sin(100 * x_t + t), torch.sin(x_t))

    steps = steps_at("squared_cosine", space_timesteps(1000, 10))
    run = SamplingRun(noise=gaussian(2, 3, 8, 8), steps=steps)
    found = last_sample(sampler(model, run, noises_like(run.noise)))
    assert bool(found.isfinite().all())
    assert float(found.abs().max()) <= 1


@every_sampler
def test_inpainting_keeps_the_known_pixels(sampler: Sampler) -> None:
    known = gaussian(2, 3, 8, 8, seed=2).clamp(-1, 1)
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, :4] = 1
    steps = steps_at("squared_cosine", space_timesteps(1000, 6))
    run = SamplingRun(noise=gaussian(2, 3, 8, 8), steps=steps, constrain=keeping_known(known, mask))
    found = last_sample(sampler(lambda x_t, t: Prediction(torch.sin(x_t + t), x_t), run, noises_like(run.noise)))
    assert torch.equal(found[:, :, :4], known[:, :, :4])
    assert not torch.isclose(found[:, :, 4:], known[:, :, 4:]).all()


def test_unknown_pixels_are_only_constrained() -> None:
    mask = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    constrain = keeping_known(torch.full((1, 1, 1, 2), 0.25), mask)
    assert constrain(torch.full((1, 1, 1, 2), 3.0)).flatten().tolist() == [0.25, 1.0]


@pytest.mark.parametrize(("name", "draws"), [("ddpm", 6), ("ddim", 0), ("dpmpp_2m", 0)])
def test_stochastic_samplers_draw_noise_once_per_step_but_the_last(name: str, draws: int) -> None:
    drawn: list[Tensor] = []

    def draw_noise() -> Tensor:
        drawn.append(gaussian(1, 3, 4, 4))
        return drawn[-1]

    run = SamplingRun(noise=gaussian(1, 3, 4, 4), steps=steps_at("squared_cosine", space_timesteps(1000, 7)))
    last_sample(SAMPLERS[name](for_gaussian_data(0.0, 0.5, "squared_cosine"), run, draw_noise))
    assert len(drawn) == draws


def test_run_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        SamplingRun(noise=gaussian(1, 3, 4, 4), steps=[])
