import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from backend_gpu.errors import BackendError, CheckpointError
from backend_gpu.glide.checkpoint import load_unet, write_weights
from backend_gpu.glide.config import TextConfig, UNetConfig
from backend_gpu.glide.metadata import read_metadata
from backend_gpu.glide.tokenizer import FIRST_WORD_ID
from backend_gpu.glide.unet import UNet
from backend_gpu.training import train
from backend_gpu.training.batches import Batches
from backend_gpu.training.device import has_bfloat16, placed
from backend_gpu.training.low_res import LowRes
from backend_gpu.training.plan import BASE_PLAN, EARLIER_RATE, TEXT_CONTEXT, Plan
from backend_gpu.training.renderers import Captioned
from backend_gpu.training.ring import Ring
from tests.backend_gpu.training.rendered import WORDS, InProcess

BASE = UNetConfig(
    image_size=16,
    num_channels=32,
    channel_mult=(1, 1),
    num_res_blocks=1,
    attention_resolutions=(2,),
    head_channels=32,
    text=TextConfig(vocab_size=len(WORDS) + 2, context=TEXT_CONTEXT, width=32, layers=1, heads=1),
    patch_size=4,
    prediction="x_start",
)
UPSAMPLER = replace(BASE, in_channels=6, noise_schedule="linear")
PLAN = replace(BASE_PLAN, minutes=60, batch_size=4, adamw_rate=1e-3, side=16, ring_slots=16)
EMPTY = torch.zeros(TEXT_CONTEXT, dtype=torch.int64), torch.zeros(TEXT_CONTEXT, dtype=torch.bool)
SECOND = 1 / 60  # in minutes
CPU = torch.device("cpu")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(autouse=True)
def _a_second_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that every look at it moves on by one second: runs have as many steps as their plan has seconds."""
    seconds = count()
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: next(seconds)))


class Unchanged(LowRes):
    """It shows the pictures themselves."""

    def __init__(self) -> None:
        pass

    def enlarged(self, pictures: Tensor, *_: object) -> Tensor:
        return pictures


def started(
    checkpoint: Path, plan: Plan = PLAN, config: UNetConfig = BASE, seed: int = 0, device: torch.device = CPU
) -> train.Training:
    torch.manual_seed(seed)
    return train.Training(placed(UNet(config), device), plan, checkpoint, WORDS)


def batches_for(training: train.Training, source: InProcess | None = None, seed: int = 1) -> Batches:
    network = training.network
    device = network.out_conv.weight.device
    low_res = Unchanged() if network.config.in_channels == 6 else None
    ring = Ring(source or InProcess(rows=2), training.plan.ring_slots, device)
    empty = EMPTY[0].to(device), EMPTY[1].to(device)
    return Batches(ring, network.config, empty, seed, low_res)


def run(training: train.Training, source: InProcess | None = None) -> None:
    train.train_until_done(training, batches_for(training, source))


def any_loss(network: UNet) -> Tensor:
    """A loss that reaches every parameter."""
    return torch.stack([(parameter - 1).square().mean() for parameter in network.parameters()]).sum()


def assert_same_weights(one: UNet, other: UNet) -> None:
    for (name, mine), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name


def test_training_on_one_batch_makes_its_loss_fall(tmp_path: Path) -> None:
    training = started(tmp_path / "base.pt")
    training.steps = 200  # the learning rate has risen
    batches = batches_for(training)
    batches.ring.fill(4, 1.0)
    batch = batches.draw(4, 0.6)
    losses = []
    for _ in range(12):
        loss = train.loss_of(training.network, batch, False)
        losses.append(loss.item())
        training.update(loss)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("config", [BASE, UPSAMPLER], ids=["base", "upsampler"])
def test_a_run_changes_the_network_and_its_average_for_as_long_as_planned(
    config: UNetConfig, device: str, tmp_path: Path
) -> None:
    training = started(tmp_path / "net.pt", replace(PLAN, minutes=4.5 * SECOND), config, device=torch.device(device))
    before = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
    run(training)
    assert training.steps == (5 if device == "cpu" else 5 + train.COMPILED_STEPS)
    assert training.pictures == 4 * training.steps
    assert training.minutes == pytest.approx(5 * SECOND)
    for network in (training.network, training.average):
        changed = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])]
        assert "out_conv.weight" in changed
        assert len(changed) > 0.5 * len(before)
        assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


def test_the_loss_is_one_graph_that_serves_for_every_batch(tmp_path: Path) -> None:
    training = started(tmp_path / "net.pt", config=UPSAMPLER)
    graphs = []

    def noted(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(train.loss_of, dynamic=False, fullgraph=True, backend=noted)
    batches = batches_for(training)
    batches.ring.fill(8, 1.0)
    for _ in range(2):
        batch = batches.draw(4, 1.0)
        torch.testing.assert_close(
            compiled(training.network, batch, False), train.loss_of(training.network, batch, False)
        )
    assert len(graphs) == 1


def test_the_compiler_is_not_waited_for_in_training_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled = []

    def noted(function: Callable[..., Tensor], **_: object) -> Callable[..., Tensor]:
        compiled.append(function)
        return function

    monkeypatch.setattr(train, "is_compiled_on", lambda _: True)
    monkeypatch.setattr(torch, "compile", noted)
    training = started(tmp_path / "base.pt", replace(PLAN, minutes=4.5 * SECOND))
    run(training)
    assert compiled == [train.loss_of]
    assert training.steps == train.COMPILED_STEPS + 5
    assert training.minutes == pytest.approx(5 * SECOND)
    assert "Compiled in 1 s." in capsys.readouterr().out.splitlines()


def test_nothing_is_compiled_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "compile")
    run(started(tmp_path / "base.pt", replace(PLAN, minutes=0.5 * SECOND)))


def test_the_renderers_follow_the_lessons_as_time_goes_by(tmp_path: Path) -> None:
    source = InProcess(rows=2)
    run(started(tmp_path / "base.pt", replace(PLAN, minutes=3.5 * SECOND)), source)
    assert source.lessons[0] == 0
    assert source.lessons == sorted(source.lessons)
    assert source.lessons[-1] == pytest.approx(3 / 3.5)


def test_an_upsampler_has_no_lessons(tmp_path: Path) -> None:
    source = InProcess(rows=2)
    run(started(tmp_path / "net.pt", replace(PLAN, minutes=1.5 * SECOND, has_lessons=False), UPSAMPLER), source)
    assert set(source.lessons) == {1.0}


def test_what_was_learned_is_saved_when_a_renderer_fails(tmp_path: Path) -> None:
    class Failing(InProcess):
        def filled(self, done: float, *, waits: bool = False) -> Iterator[Captioned]:
            if done > 0:
                raise BackendError("a renderer has failed")
            return super().filled(done, waits=waits)

    with pytest.raises(BackendError, match=r"a renderer has failed\nThe same command goes on after 0\.0 min"):
        run(started(tmp_path / "base.pt"), Failing(rows=2))
    assert started(tmp_path / "base.pt").steps > 0


def test_a_resumed_run_goes_on_where_the_checkpoint_was_saved(tmp_path: Path) -> None:
    checkpoint = tmp_path / "base.pt"
    first = started(checkpoint, replace(PLAN, minutes=3.5 * SECOND))
    run(first)
    resumed = started(checkpoint, replace(PLAN, minutes=6.5 * SECOND), seed=1)
    assert resumed.steps == 4
    assert resumed.pictures == 16
    assert resumed.minutes == pytest.approx(4 * SECOND)
    assert_same_weights(resumed.network, first.network)
    assert_same_weights(resumed.average, first.average)
    run(resumed)
    assert resumed.steps == 7


def test_a_resumed_optimiser_takes_the_same_step_as_one_that_never_stopped(tmp_path: Path) -> None:
    checkpoint = tmp_path / "base.pt"
    whole = started(checkpoint)
    for _ in range(3):
        whole.update(any_loss(whole.network))
    whole.save()
    resumed = started(checkpoint, seed=1)
    for training in (whole, resumed):
        training.update(any_loss(training.network))
    assert_same_weights(resumed.network, whole.network)
    assert_same_weights(resumed.average, whole.average)


def test_a_checkpoint_of_other_words_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "base.pt"
    started(checkpoint).save()
    with pytest.raises(CheckpointError, match=r"base\.pt was trained on other words"):
        train.Training(UNet(BASE), PLAN, checkpoint, WORDS[::-1])


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    started(tmp_path / "base.pt").save()
    with pytest.raises(CheckpointError, match=r"base\.pt is a network of another shape"):
        started(tmp_path / "base.pt", config=replace(BASE, num_channels=64))


def test_a_save_that_breaks_off_leaves_the_last_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    training = started(tmp_path / "base.pt")
    training.save()
    training.update(any_loss(training.network))
    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        training.save()
    assert started(tmp_path / "base.pt").steps == 0


def test_both_optimisers_follow_the_plans_rate(tmp_path: Path) -> None:
    training = started(tmp_path / "base.pt")
    training.steps, training.minutes = 5000, 45
    training.update(any_loss(training.network))
    rates = [group["lr"] for optimizer in training.optimizers for group in optimizer.param_groups]
    assert rates == pytest.approx([PLAN.muon_rate * 0.5, PLAN.adamw_rate * 0.5])


def test_every_parameter_has_one_optimiser_and_embeddings_have_adamw(tmp_path: Path) -> None:
    training = started(tmp_path / "base.pt")
    muon, adamw = (
        {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for optimizer in training.optimizers
    )
    named = dict(training.network.named_parameters())
    assert muon.isdisjoint(adamw)
    assert muon | adamw == {id(parameter) for parameter in named.values()}
    with_adamw = {name for name, parameter in named.items() if id(parameter) in adamw}
    assert {"text.token_embedding.weight", "text.positional_embedding", "out_conv.weight"} <= with_adamw
    assert all(named[name].ndim < 2 or "_embedding" in name or name == "out_conv.weight" for name in with_adamw)


def test_the_average_follows_the_network_by_its_recurrence(tmp_path: Path) -> None:
    training = started(tmp_path / "base.pt")
    expected = training.network.out_conv.weight.detach().double().clone()
    for step in range(1, 6):
        training.update(any_loss(training.network))
        decay = step / (step + 10)  # until it reaches 0.999
        expected = decay * expected + (1 - decay) * training.network.out_conv.weight.detach().double()
    torch.testing.assert_close(training.average.out_conv.weight.double(), expected, atol=1e-6, rtol=0)


def test_the_loss_is_the_weighted_square_of_the_first_three_channels() -> None:
    x_start = torch.ones(2, 3, 2, 2)
    output = torch.full((2, 6, 2, 2), 3.0)
    output[:, 3:] = 1000  # the variance's half is not trained
    output[1, :3] = 2.0
    alpha_bar = torch.tensor([0.5, 0.9])[:, None, None, None]
    # 1 / (1 - 0.5) = 2 times (3 - 1)^2, and 1 / (1 - 0.9) = 10, at most 5, times (2 - 1)^2
    assert train.x_start_loss(output, x_start, alpha_bar).item() == pytest.approx((2 * 4 + 5 * 1) / 2)


@pytest.mark.parametrize("alpha_bar", [0.0, 0.3, 0.79])
def test_below_its_limit_the_loss_is_the_plain_error_of_v(alpha_bar: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x_t, x_start, guess = torch.randn(3, 1, 3, 4, 4, generator=generator, dtype=torch.float64)

    signal, noise = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    # v = signal * eps - noise * x_start (Salimans & Ho 2022), with the eps that x_t has beside this x_start
    wanted_v, guessed_v = (signal * (x_t - signal * clean) / noise - noise * clean for clean in (x_start, guess))
    loss = train.x_start_loss(guess, x_start, torch.tensor(alpha_bar, dtype=torch.float64))
    torch.testing.assert_close(loss, (guessed_v - wanted_v).square().mean())


def test_the_exported_average_tells_how_it_was_made(tmp_path: Path) -> None:
    training = started(tmp_path / "base.pt")
    training.update(any_loss(training.network))
    training.pictures, training.minutes = 64 * 7 + 5, 12.3
    training.save()
    weights = tmp_path / "weights" / "base.safetensors"
    train.export(tmp_path / "base.pt", weights, ["dog", "cat"])
    metadata = read_metadata(weights)
    assert UNetConfig.from_json(metadata["config"]) == BASE
    assert json.loads(metadata["words"]) == WORDS
    assert json.loads(metadata["concepts"]) == ["dog", "cat"]
    assert (metadata["steps"], metadata["minutes"], metadata["held_out"]) == ("7", "12", "true")
    exported, latest = load_unet(weights, BASE, torch.float32).state_dict(), training.network.state_dict()
    for name, tensor in training.average.state_dict().items():
        assert torch.equal(exported[name], tensor.half().float()), name
    assert not torch.equal(exported["out_conv.weight"], latest["out_conv.weight"].half().float())


def test_what_is_not_trained_can_not_be_exported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"base\.pt is missing: train that network first"):
        train.export(tmp_path / "base.pt", tmp_path / "base.safetensors", [])


def exported(weights: Path, words: list[str], config: UNetConfig = BASE) -> UNet:
    """A model of these words, as an earlier run leaves it: 7 steps in 3 minutes."""
    torch.manual_seed(1)
    network = UNet(replace(config, text=config.text and replace(config.text, vocab_size=len(words) + 2)))
    metadata = {"config": network.config.to_json(), "words": json.dumps(words), "concepts": "[]"}
    write_weights(weights, network.state_dict(), metadata | {"steps": "7", "minutes": "3", "held_out": "false"})
    return network


def test_a_run_can_start_from_an_earlier_model_whose_words_keep_their_vectors(tmp_path: Path) -> None:
    words = [word for word in reversed(WORDS) if word != "dog"] + ["unheard-of"]
    earlier = exported(tmp_path / "base.safetensors", words)
    training = train.Training(UNet(BASE), PLAN, tmp_path / "base.pt", WORDS, tmp_path / "base.safetensors")
    old, new = (unet.state_dict() for unet in (earlier, training.network))
    for name in old.keys() - {"text.token_embedding.weight"}:
        assert torch.equal(new[name], old[name].half().float()), name
    vectors, before = (state["text.token_embedding.weight"] for state in (new, old))
    assert torch.equal(vectors[:FIRST_WORD_ID], before[:FIRST_WORD_ID].half().float())
    for row, word in enumerate(WORDS, FIRST_WORD_ID):
        if word != "dog":
            assert torch.equal(vectors[row], before[words.index(word) + FIRST_WORD_ID].half().float()), word
    assert_same_weights(training.average, training.network)


def test_a_longer_text_than_the_earlier_models_begins_as_its_last_token(tmp_path: Path) -> None:
    assert BASE.text is not None
    earlier = replace(BASE, text=replace(BASE.text, context=TEXT_CONTEXT - 3))
    old = exported(tmp_path / "base.safetensors", WORDS, earlier).state_dict()
    network = UNet(BASE)
    train.start_from(tmp_path / "base.safetensors", network, WORDS)
    for name in ("text.positional_embedding", "text.padding_embedding"):
        known, new = old[name].half().float(), network.state_dict()[name]
        assert torch.equal(new[:-3], known), name
        assert torch.equal(new[-3:], known[-1:].expand(3, -1)), name


@pytest.mark.parametrize("change", [{"patch_size": 8}, {"channel_mult": (1, 2)}, {"text": None}])
def test_an_earlier_model_of_another_shape_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    exported(tmp_path / "base.safetensors", WORDS, replace(BASE, **change))
    with pytest.raises(CheckpointError, match=r"base\.safetensors is a network of another shape .* from nothing"):
        train.start_from(tmp_path / "base.safetensors", UNet(BASE), WORDS)


def test_what_started_from_an_earlier_model_counts_its_training_too(tmp_path: Path) -> None:
    exported(tmp_path / "base.safetensors", WORDS)
    for _ in range(2):  # the second goes on from the checkpoint
        training = train.Training(UNet(BASE), PLAN, tmp_path / "base.pt", WORDS, tmp_path / "base.safetensors")
        training.update(any_loss(training.network))
        training.pictures += 64
        training.minutes += 4
        training.save()
    train.export(tmp_path / "base.pt", tmp_path / "new.safetensors", [])
    metadata = read_metadata(tmp_path / "new.safetensors")
    assert (metadata["steps"], metadata["minutes"], metadata["held_out"]) == ("9", "11", "false")


def test_what_started_from_an_earlier_model_learns_slower_and_sees_everything_at_once(tmp_path: Path) -> None:
    exported(tmp_path / "base.safetensors", WORDS)
    for _ in range(2):  # the second goes on from the checkpoint
        training = train.Training(UNet(BASE), PLAN, tmp_path / "base.pt", WORDS, tmp_path / "base.safetensors")
        peaks = [group["peak_lr"] for optimizer in training.optimizers for group in optimizer.param_groups]
        assert peaks == pytest.approx([PLAN.muon_rate * EARLIER_RATE, PLAN.adamw_rate * EARLIER_RATE])
        assert training.lesson == 1.0
        training.save()


def test_the_upsampler_takes_the_average_of_the_trained_base_model(tmp_path: Path) -> None:
    training = started(tmp_path / "base.pt")
    training.update(any_loss(training.network))
    training.save()
    assert_same_weights(train.trained_base(tmp_path / "base.pt", BASE, WORDS), training.average)


def test_an_upsampler_without_a_base_model_of_its_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train that network first"):
        train.trained_base(tmp_path / "base.pt", BASE, WORDS)
    started(tmp_path / "base.pt").save()
    with pytest.raises(CheckpointError, match="other words"):
        train.trained_base(tmp_path / "base.pt", BASE, WORDS[1:])


@pytest.mark.parametrize("device", DEVICES)
def test_a_cpu_that_has_to_emulate_bfloat16_computes_in_float32(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert has_bfloat16(torch.device(device)) is (device == "cuda")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert has_bfloat16(torch.device(device))
