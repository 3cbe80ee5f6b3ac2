import pytest
import torch
from torch import Tensor

from backend_gpu.glide.guidance import with_guidance
from backend_gpu.glide.samplers import Prediction

COND = torch.tensor([1.0, 2.0, 3.0])  # what the prompts of three pictures predict
UNCOND = torch.tensor([0.5, 0.5, 5.0])


class TwoHalves:
    """Predicts a constant per row of its double batch, and notes how it is called."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows[:, None, None, None]
        self.calls: list[tuple[Tensor, float]] = []

    def __call__(self, x_t: Tensor, t: float) -> Prediction:
        self.calls.append((x_t, t))
        return Prediction(self.rows.expand_as(x_t), 10 * self.rows.expand_as(x_t))


def guide(*scales: float) -> Prediction:
    x_t = torch.zeros(len(scales), 3, 2, 2)
    rows = torch.cat([COND[: len(scales)], UNCOND[: len(scales)]])
    return with_guidance(TwoHalves(rows), torch.tensor(scales))(x_t, 500.0)


def test_scale_one_is_the_prompt_alone() -> None:
    assert torch.equal(guide(1.0, 1.0, 1.0).eps[:, 0, 0, 0], COND)


def test_scale_zero_ignores_the_prompt() -> None:
    assert torch.equal(guide(0.0, 0.0, 0.0).eps[:, 0, 0, 0], UNCOND)


def test_every_picture_has_its_own_scale() -> None:
    assert guide(3.0, 1.0, 5.0).eps[:, 0, 0, 0].tolist() == pytest.approx([0.5 + 3 * 0.5, 2.0, 5.0 - 5 * 2.0])


def test_scale_of_a_batch_mate_changes_nothing() -> None:
    assert torch.equal(guide(3.0, 1.0, 5.0).eps[0], guide(3.0, 7.0, 2.0).eps[0])


def test_variance_is_that_of_the_prompt() -> None:
    assert torch.equal(guide(3.0, 1.0, 5.0).variance_mix[:, 0, 0, 0], 10 * COND)


def test_network_runs_once_on_both_halves() -> None:
    model = TwoHalves(torch.cat([COND, UNCOND]))
    x_t = torch.randn(3, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    with_guidance(model, torch.full((3,), 3.0))(x_t, 412.5)
    [(batch, t)] = model.calls
    assert t == 412.5
    assert torch.equal(batch, torch.cat([x_t, x_t]))


def test_guidance_keeps_the_dtype_of_eps() -> None:
    x_t = torch.zeros(3, 3, 2, 2)
    model = TwoHalves(torch.cat([COND, UNCOND]))
    assert with_guidance(model, torch.full((3,), 3.0, dtype=torch.float64))(x_t, 0.0).eps.dtype == torch.float32


@pytest.mark.parametrize("shape", [(), (3, 1)])
def test_scale_must_be_one_number_per_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one number per picture"):
        with_guidance(TwoHalves(COND), torch.ones(shape))
