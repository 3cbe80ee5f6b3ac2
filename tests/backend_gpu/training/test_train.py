import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from backend_gpu.errors import CheckpointError
from backend_gpu.glide.checkpoint import load_unet, write_weights
from backend_gpu.glide.config import TextConfig, UNetConfig
from backend_gpu.glide.metadata import read_metadata
from backend_gpu.glide.schedule import alpha_bars
from backend_gpu.glide.tokenizer import FIRST_WORD_ID, WordTokenizer
from backend_gpu.glide.unet import UNet
from backend_gpu.mini.vocabulary import load_vocabulary, with_article
from backend_gpu.training import train
from backend_gpu.training.scenes import HELD_OUT_ONE_IN

VOCABULARY = replace(load_vocabulary(), concepts=load_vocabulary().concepts[:30])
WORDS = VOCABULARY.words()
TOKENIZER = WordTokenizer(WORDS, train.TEXT_CONTEXT)
BASE = UNetConfig(
    image_size=16,
    num_channels=32,
    channel_mult=(1, 1),
    num_res_blocks=1,
    attention_resolutions=(2,),
    head_channels=32,
    text=TextConfig(vocab_size=len(WORDS) + 2, context=train.TEXT_CONTEXT, width=32, layers=1, heads=1),
    patch_size=4,
    prediction="x_start",
)
UPSAMPLER = replace(BASE, image_size=64, in_channels=6, patch_size=16, text=None, noise_schedule="linear")
PLAN = train.Plan(minutes=60, batch_size=4, adamw_rate=1e-3, muon_rate=0.02, side=16, timestep_bias=0.6)
SECOND = 1 / 60  # in minutes
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _a_second_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that every look at it moves on by one second: runs have as many steps as their plan has seconds."""
    seconds = count()
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: next(seconds)))


def started(checkpoint: Path, plan: train.Plan = PLAN, config: UNetConfig = BASE, seed: int = 0) -> train.Training:
    torch.manual_seed(seed)
    return train.Training(UNet(config), plan, checkpoint, WORDS)


def run(training: train.Training) -> None:
    train.train_until_done(training, train.Batches(VOCABULARY, TOKENIZER, training.plan, seed=1), CPU)


def any_loss(network: UNet) -> Tensor:
    """A loss that reaches every parameter."""
    return torch.stack([(parameter - 1).square().mean() for parameter in network.parameters()]).sum()


def captions(batches: train.Batches, number: int, done: float) -> Iterator[str]:
    """What the captions of that many batches say, the empty ones left out."""
    for _ in range(number):
        _, tokens, masks = batches.captioned(done)
        for ids, mask in zip(tokens.tolist(), masks.tolist(), strict=True):
            words = [WORDS[index - FIRST_WORD_ID] for index, is_token in zip(ids, mask, strict=True) if is_token]
            if words:
                yield " ".join(words).replace(" ,", ",")


def assert_same_weights(one: UNet, other: UNet) -> None:
    for (name, mine), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name


def test_training_on_one_batch_makes_its_loss_fall(tmp_path: Path) -> None:
    training = started(tmp_path / "base.pt")
    training.steps = 200  # the learning rate has risen
    x_start, tokens, mask = train.Batches(VOCABULARY, TOKENIZER, PLAN, seed=0).captioned(1.0)
    generator = torch.Generator().manual_seed(0)
    t = torch.randint(0, 1000, (4,), generator=generator)
    alpha_bar = torch.tensor(alpha_bars("squared_cosine"))[t].float()[:, None, None, None]
    eps = torch.randn(x_start.shape, generator=generator)
    x_t = alpha_bar.sqrt() * x_start + (1 - alpha_bar).sqrt() * eps

    losses = []
    for _ in range(12):
        output = training.network(x_t, t, training.network.encode_text(tokens, mask))
        loss = train.x_start_loss(output, x_start, alpha_bar)
        losses.append(loss.item())
        training.update(loss)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("config", "side"), [(BASE, 16), (UPSAMPLER, 32)], ids=["base", "upsampler"])
def test_a_run_changes_the_network_and_its_average_for_as_long_as_planned(
    config: UNetConfig, side: int, tmp_path: Path
) -> None:
    plan = replace(PLAN, minutes=4.5 * SECOND, side=side)
    training = started(tmp_path / "net.pt", plan, config)
    before = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
    run(training)
    assert training.steps == 5
    assert training.minutes == pytest.approx(5 * SECOND)
    for network in (training.network, training.average):
        changed = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])]
        assert "out_conv.weight" in changed
        assert len(changed) > 0.5 * len(before)
        assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


def test_a_resumed_run_goes_on_where_the_checkpoint_was_saved(tmp_path: Path) -> None:
    checkpoint = tmp_path / "base.pt"
    first = started(checkpoint, replace(PLAN, minutes=3.5 * SECOND))
    run(first)
    resumed = started(checkpoint, replace(PLAN, minutes=6.5 * SECOND), seed=1)
    assert resumed.steps == 4
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


def test_a_finished_run_is_not_trained_any_further(tmp_path: Path) -> None:
    plan = replace(PLAN, minutes=1.5 * SECOND)
    run(started(tmp_path / "base.pt", plan))
    again = started(tmp_path / "base.pt", plan)
    run(again)
    assert again.steps == 2


def test_a_checkpoint_of_other_words_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "base.pt"
    started(checkpoint).save()
    with pytest.raises(CheckpointError, match=r"base\.pt was trained on other words"):
        train.Training(UNet(BASE), PLAN, checkpoint, WORDS[::-1])


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


@pytest.mark.parametrize(
    ("steps", "minutes", "share"),
    [
        (0, 0, 1 / 200),
        (99, 0, 0.5),
        (199, 0, 1),
        (5000, 33, 1),  # 55% of the hour
        (5000, 46.5, 0.5),
        (5000, 60, 0.02),
    ],
)
def test_the_learning_rate_rises_stays_and_falls(steps: int, minutes: float, share: float, tmp_path: Path) -> None:
    training = started(tmp_path / "base.pt")
    training.steps, training.minutes = steps, minutes
    training.update(any_loss(training.network))
    rates = [group["lr"] for optimizer in training.optimizers for group in optimizer.param_groups]
    assert rates == pytest.approx([PLAN.muon_rate * share, PLAN.adamw_rate * share])


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


@pytest.mark.parametrize("bias", [0.6, 1.0])
def test_each_equal_share_of_the_noise_levels_is_drawn_once_per_batch(bias: float) -> None:
    plan = replace(PLAN, batch_size=50, timestep_bias=bias)
    t = train.draw_timesteps(plan, torch.Generator().manual_seed(0))
    assert t.min() >= 0
    assert t.max() <= 999
    edges = 1000 * np.linspace(0, 1, 51) ** bias
    ordered = np.sort(t.numpy())
    assert (ordered >= np.floor(edges[:-1])).all()
    assert (ordered <= edges[1:]).all()
    assert not np.array_equal(t.numpy(), ordered)


def test_a_batch_has_pictures_with_their_captions_in_the_shapes_that_the_network_takes() -> None:
    pictures, tokens, masks = train.Batches(VOCABULARY, TOKENIZER, PLAN, seed=0).captioned(0.5)
    assert (pictures.shape, pictures.dtype) == ((4, 3, 16, 16), torch.float32)
    assert pictures.is_contiguous()
    assert pictures.min() >= -1
    assert pictures.max() <= 1
    assert tokens.shape == masks.shape == (4, train.TEXT_CONTEXT)
    assert masks.dtype == torch.bool


def test_batches_of_one_seed_are_the_same_and_of_another_are_not() -> None:
    first, same, other = (train.Batches(VOCABULARY, TOKENIZER, PLAN, seed).captioned(0.5)[0] for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_no_caption_in_training_is_one_that_the_evaluation_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = {with_article(concept.english) for concept in VOCABULARY.concepts}

    def kept(said: Iterator[str]) -> set[str]:
        return {text for text in said if zlib.crc32(text.encode()) % HELD_OUT_ONE_IN == 0} - bare

    batches = train.Batches(VOCABULARY, TOKENIZER, replace(PLAN, batch_size=600, side=8), seed=0)
    assert kept(captions(batches, 1, done=1.0)) == set()
    monkeypatch.setattr(train, "is_held_out", lambda _: False)
    assert kept(captions(batches, 1, done=1.0))  # without the rule there would be some


def test_about_an_eighth_of_the_captions_is_empty() -> None:
    batches = train.Batches(VOCABULARY, TOKENIZER, replace(PLAN, batch_size=800, side=8), seed=0)
    _, _, masks = batches.captioned(1.0)
    empty = 1 - masks.any(dim=1).float().mean().item()
    assert abs(empty - train.CAPTION_DROPOUT) < 0.035  # three standard deviations


def test_training_begins_with_a_dozen_concepts_and_no_pairs() -> None:
    batches = train.Batches(VOCABULARY, TOKENIZER, replace(PLAN, batch_size=300, side=8), seed=0)
    early, late = (" | ".join(captions(batches, 1, done)) for done in (0.0, 1.0))
    later_nouns = [concept.english for concept in VOCABULARY.concepts[12:]]
    assert not [noun for noun in later_nouns if f" {noun}" in early]
    assert [noun for noun in later_nouns if f" {noun}" in late]
    assert " above a" not in early
    assert " above a" in late


@pytest.mark.parametrize(
    ("done", "concepts", "drawn"),
    [(0, 100, 12), (0.125, 100, 56), (0.25, 100, 100), (1, 100, 100), (0, 6, 6), (0.5, 6, 6), (1, 6, 6)],
)
def test_all_concepts_are_drawn_after_a_quarter_of_the_run(done: float, concepts: int, drawn: int) -> None:
    assert train.concepts_at(done, concepts) == drawn


def test_a_crop_comes_with_itself_at_a_quarter_of_the_size() -> None:
    batches = train.Batches(VOCABULARY, TOKENIZER, replace(PLAN, batch_size=6, side=32), seed=0)
    for _ in range(4):
        pictures, low_res = batches.crops()
        assert pictures.shape == (6, 3, 32, 32)
        assert low_res.shape == (6, 3, 8, 8)
        assert not torch.equal(pictures[0], pictures[1])
        # It is softened and noised, by at most 0.06, but nearer to its own crop than to any other's.
        apart = (F.avg_pool2d(pictures, 4)[:, None] - low_res[None]).abs().mean((2, 3, 4))
        assert apart.diagonal().max() < 0.15
        assert not (apart.diagonal() > apart.min(dim=1).values).any()


def test_the_exported_average_tells_how_it_was_made(tmp_path: Path) -> None:
    training = started(tmp_path / "base.pt")
    training.update(any_loss(training.network))
    training.minutes = 12.3
    training.save()
    weights = tmp_path / "weights" / "base.safetensors"
    train.export(tmp_path / "base.pt", weights, BASE, ["dog", "cat"])
    metadata = read_metadata(weights)
    assert UNetConfig.from_json(metadata["config"]) == BASE
    assert json.loads(metadata["words"]) == WORDS
    assert json.loads(metadata["concepts"]) == ["dog", "cat"]
    assert (metadata["steps"], metadata["minutes"], metadata["held_out"]) == ("1", "12", "true")
    exported, latest = load_unet(weights, BASE, torch.float32).state_dict(), training.network.state_dict()
    for name, tensor in training.average.state_dict().items():
        assert torch.equal(exported[name], tensor.half().float()), name
    assert not torch.equal(exported["out_conv.weight"], latest["out_conv.weight"].half().float())


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
    earlier = replace(BASE, text=replace(BASE.text, context=train.TEXT_CONTEXT - 3))
    old = exported(tmp_path / "base.safetensors", WORDS, earlier).state_dict()
    network = UNet(BASE)
    train.start_from(tmp_path / "base.safetensors", network, WORDS)
    for name in ("text.positional_embedding", "text.padding_embedding"):
        known, new = old[name].half().float(), network.state_dict()[name]
        assert torch.equal(new[:-3], known), name
        assert torch.equal(new[-3:], known[-1:].expand(3, -1)), name


def test_what_started_from_an_earlier_model_counts_its_training_too(tmp_path: Path) -> None:
    exported(tmp_path / "base.safetensors", WORDS)
    for _ in range(2):  # the second goes on from the checkpoint
        training = train.Training(UNet(BASE), PLAN, tmp_path / "base.pt", WORDS, tmp_path / "base.safetensors")
        training.update(any_loss(training.network))
        training.minutes += 4
        training.save()
    train.export(tmp_path / "base.pt", tmp_path / "new.safetensors", BASE, [])
    metadata = read_metadata(tmp_path / "new.safetensors")
    assert (metadata["steps"], metadata["minutes"], metadata["held_out"]) == ("9", "11", "false")


def test_what_has_learned_before_sees_all_concepts_and_pairs_at_once() -> None:
    plan = replace(PLAN, batch_size=300)
    seen = list(captions(train.Batches(VOCABULARY, TOKENIZER, plan, seed=0, has_learned=True), 1, done=0.0))
    assert all(any(concept.english in caption for caption in seen) for concept in VOCABULARY.concepts)
    assert any(" left of " in caption for caption in seen)


def test_an_upsampler_sees_what_the_base_model_makes_of_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "REPAINTED", 1.0)
    monkeypatch.setattr(train, "base_config", lambda _: replace(BASE, image_size=64, patch_size=16))
    training = started(tmp_path / "base.pt", config=train.base_config(len(WORDS)))
    training.save()
    base = train.trained_base(tmp_path / "base.pt", WORDS)
    assert_same_weights(base, training.average)
    plan = replace(PLAN, batch_size=6, side=32)
    plain, repainted = (train.Batches(VOCABULARY, TOKENIZER, plan, seed=2, base=base) for base in (None, base))
    (pictures, low_res), (same_scenes, painted) = plain.crops(), repainted.crops()
    assert painted.shape == low_res.shape == (6, 3, 8, 8)
    assert (F.avg_pool2d(same_scenes, 4) - painted).abs().mean() > 0.2  # an untrained model makes noise of them
    assert (F.avg_pool2d(pictures, 4) - low_res).abs().mean() < 0.1


def test_an_upsampler_without_a_base_model_of_its_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train that first"):
        train.trained_base(tmp_path / "base.pt", WORDS)
    started(tmp_path / "base.pt").save()
    with pytest.raises(CheckpointError, match="other words"):
        train.trained_base(tmp_path / "base.pt", WORDS[1:])


def test_the_networks_that_are_trained_fit_together_and_stay_small() -> None:
    base, upsampler = UNet(train.base_config(len(WORDS))), UNet(train.UPSAMPLER_CONFIG)
    assert base.config.in_channels + 3 == upsampler.config.in_channels
    assert base.config.image_size * 4 == upsampler.config.image_size == 256
    parameters = sum(parameter.numel() for network in (base, upsampler) for parameter in network.parameters())
    assert parameters < 12e6  # 24 MB in half precision
