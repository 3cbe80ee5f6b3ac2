import numpy as np
import pytest
import torch
from torch import Tensor

from backend_gpu.glide.schedule import alpha_bars
from backend_gpu.training.batches import CAPTION_DROPOUT, Batches, draw_timesteps
from backend_gpu.training.low_res import LowRes
from backend_gpu.training.plan import TEXT_CONTEXT, base_config
from backend_gpu.training.ring import Ring
from tests.backend_gpu.training.rendered import WORDS, InProcess

EMPTY = torch.zeros(TEXT_CONTEXT, dtype=torch.int64), torch.zeros(TEXT_CONTEXT, dtype=torch.bool)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


class Doubled(LowRes):
    """It shows what it was asked for."""

    def __init__(self) -> None:
        pass

    def enlarged(self, pictures: Tensor, tokens: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        del generator
        assert mask.any(1).all()  # the base model paints what the caption says, if the upsampler reads it or not
        assert tokens.shape == mask.shape
        return pictures * 2


def batches(device: str = "cpu", seed: int = 0, low_res: LowRes | None = None) -> Batches:
    ring = Ring(InProcess(rows=16), 4, torch.device(device))
    ring.fill(64, 1.0)
    empty = EMPTY[0].to(device), EMPTY[1].to(device)
    return Batches(ring, base_config(len(WORDS)), empty, seed, low_res)


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_has_pictures_noise_and_captions_in_the_shapes_that_the_network_takes(device: str) -> None:
    batch = batches(device).draw(6, 0.6)
    assert batch.x_start.shape == batch.eps.shape == (6, 3, 16, 16)
    assert batch.tokens.shape == batch.mask.shape == (6, TEXT_CONTEXT)
    assert batch.t.shape == (6,)
    expected = torch.tensor(alpha_bars("squared_cosine"))[batch.t.cpu()]
    torch.testing.assert_close(batch.alpha_bar.flatten().cpu(), expected)
    assert batch.enlarged is None
    assert {part.device.type for part in batch if part is not None} == {device}


def test_batches_of_one_seed_are_the_same_and_of_another_are_not() -> None:
    first, same, other = (batches(seed=seed).draw(6, 0.6) for seed in (0, 0, 1))
    for part, its in zip(first[:-1], same[:-1], strict=True):
        assert part is not None
        assert its is not None
        assert torch.equal(part, its)
    assert not torch.equal(first.eps, other.eps)


def test_about_an_eighth_of_the_captions_is_empty() -> None:
    batch = batches().draw(800, 0.6)
    is_empty = ~batch.mask.any(dim=1)
    assert abs(is_empty.float().mean().item() - CAPTION_DROPOUT) < 0.035  # three standard deviations
    assert torch.equal(batch.tokens[is_empty], EMPTY[0].expand(int(is_empty.sum()), -1))


def test_an_upsampler_gets_the_enlarged_low_res_of_its_own_pictures() -> None:
    batch = batches(low_res=Doubled()).draw(64, 1.0)
    assert batch.enlarged is not None
    assert torch.equal(batch.enlarged, batch.x_start * 2)


@pytest.mark.parametrize("bias", [0.6, 1.0])
def test_each_equal_share_of_the_noise_levels_is_drawn_once_per_batch(bias: float) -> None:
    t = draw_timesteps(50, bias, torch.Generator().manual_seed(0))
    assert t.min() >= 0
    assert t.max() <= 999
    edges = 1000 * np.linspace(0, 1, 51) ** bias
    ordered = np.sort(t.numpy())
    assert (ordered >= np.floor(edges[:-1])).all()
    assert (ordered <= edges[1:]).all()
    assert not np.array_equal(t.numpy(), ordered)
