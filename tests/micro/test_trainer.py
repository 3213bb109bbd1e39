"""What the parts of training share: schedule, averages, steps, checkpoints, pictures."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.training_utils import EMAModel
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from t2i.micro import trainer as module
from t2i.micro.grids import GRID_COLUMNS, grid, save_png, to_pixels
from t2i.micro.model import micro_text_encoders
from t2i.micro.trainer import Recipe, Recorded, Trainer, adamw, half_precision, save_half

RECIPE = Recipe(steps=23, batch=16, peak=0.03, seed=7, warm_up=5, decay=0.1, average=0.6)
ROWS = (5, 10, 14, 19, 23)  # where fifths of 23 steps end
LOOKS = (6, 12, 18, 23)  # and quarters
CHECKPOINT = "toy.checkpoint"


@pytest.fixture(autouse=True)
def restored_backends(monkeypatch) -> Iterator[None]:
    """What a trainer chooses for its process must not reach other tests."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)


class Toy:
    """A small network that learns which of ten tokens count, and what it saw while it did."""

    def __init__(self, recipe: Recipe = RECIPE, device: str = "cpu", drawn: bool = False) -> None:
        torch.manual_seed(1)
        self.network = nn.Sequential(nn.Embedding(10, 6), nn.LayerNorm(6), nn.Linear(6, 1))
        self.network.to(device)
        self.trainer = Trainer([self.network], recipe, device)
        self.recipe, self.device, self.drawn = recipe, device, drawn
        self.seen: dict[int, dict[str, float]] = {}
        self.tokens: list[Tensor] = []
        self.fails_at: int | None = None

    def losses(self) -> dict[str, Tensor]:
        """The loss of a batch: drawn from torch's generator, or a function of the step."""
        if self.drawn:
            tokens = torch.randint(10, (self.recipe.batch,), device=self.device)
        else:
            own = torch.Generator().manual_seed(self.trainer.step)
            tokens = torch.randint(10, (self.recipe.batch,), generator=own)
        error = self.network(tokens)[:, 0] - (tokens % 3)
        named = {"loss": error.square().mean(), "size": error.abs().mean()}
        if self.device == "cpu":
            self.tokens.append(tokens)
            self.seen[self.trainer.step] = {name: value.item() for name, value in named.items()}
        return named

    def look(self) -> tuple[dict[str, float], Tensor]:
        """A figure of the averages, and a picture that tells the step."""
        if self.trainer.step == self.fails_at:
            raise RuntimeError("the power is gone")
        average = self.trainer.averages[0][2].bias
        return {"bias": average.item()}, torch.full((1, 4, 4, 3), self.trainer.step).byte()

    def train(self, folder: Path, **more: Any) -> Trainer:
        options = {"look": self.look, "rows": 5, "looks": 4, **more}
        self.trainer.train(self.losses, folder / CHECKPOINT, **options)
        return self.trainer


def interrupted(folder: Path, step: int, recipe: Recipe = RECIPE, **options: Any) -> Toy:
    toy = Toy(recipe, **options)
    toy.fails_at = step
    with pytest.raises(RuntimeError, match="the power is gone"):
        toy.train(folder)
    return toy


def without_seconds(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: row[name] for name in row if name != "seconds"} for row in rows]


def same_weights(one: list[nn.Module], other: list[nn.Module]) -> bool:
    states = [[*network.state_dict().values()] for network in (*one, *other)]
    half = len(one)
    return all(
        torch.equal(a, b)
        for left, right in zip(states[:half], states[half:], strict=True)
        for a, b in zip(left, right, strict=True)
    )


def test_the_rate_warms_up_and_falls_as_a_cosine() -> None:
    recipe = Recipe(steps=1000, batch=1, peak=2e-3, seed=0, warm_up=100)
    assert recipe.rate(0) == pytest.approx(2e-5, rel=1e-5)
    assert recipe.rate(49) == pytest.approx(1e-3 * (1 + math.cos(math.pi * 0.049)) / 2)
    assert recipe.rate(250) == pytest.approx(2e-3 * (2 + math.sqrt(2)) / 4)
    assert recipe.rate(500) == pytest.approx(1e-3)
    assert recipe.rate(999) == pytest.approx(2e-5), "a hundredth is the least"
    rates = [recipe.rate(step) for step in range(1000)]
    highest = rates.index(max(rates))
    assert 95 <= highest <= 105
    assert rates[: highest + 1] == sorted(rates[: highest + 1])
    assert rates[highest:] == sorted(rates[highest:], reverse=True)


def test_vectors_and_tables_of_tokens_do_not_decay() -> None:
    network = nn.ModuleDict(
        {
            "table": nn.Embedding(4, 3),
            "norm": nn.LayerNorm(3),
            "linear": nn.Linear(3, 3),
            "convolution": nn.Conv2d(3, 3, 1),
        }
    )
    other = nn.Linear(3, 2)
    parameters = {**dict(network.named_parameters()), "other": other.weight, "vector": other.bias}
    with torch.no_grad():
        for value in parameters.values():
            value.fill_(1.0)
    optimizer = adamw([network, other], replace(RECIPE, peak=0.5, decay=0.2), "cpu")
    for value in parameters.values():
        value.grad = torch.zeros_like(value)
    optimizer.step()
    decayed = {name for name, value in parameters.items() if torch.any(value != 1)}
    assert decayed == {"linear.weight", "convolution.weight", "other"}
    assert all(torch.all(parameters[name] == 1 - 0.5 * 0.2) for name in decayed)


def test_weights_and_averages_are_those_of_a_plain_loop(tmp_path) -> None:
    """AdamW, clipped gradients and the rate as torch has them; averages by diffusers' EMAModel."""
    toy = Toy()
    network = copy.deepcopy(toy.network)
    table, norm, linear = network
    optimizer = torch.optim.AdamW(
        [
            {"params": [linear.weight], "weight_decay": RECIPE.decay},
            {"params": [table.weight, *norm.parameters(), linear.bias], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.99),
    )
    average = EMAModel(network.parameters(), decay=RECIPE.average)
    average.optimization_step = 1  # the trainer's decay is one step ahead, 2 / 11 at first
    clipped = 0
    for step in range(RECIPE.steps):
        tokens = torch.randint(10, (16,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (network(tokens)[:, 0] - tokens % 3).square().mean().backward()
        clipped += int(nn.utils.clip_grad_norm_(network.parameters(), 1.0) > 1)
        for group in optimizer.param_groups:
            group["lr"] = RECIPE.rate(step)
        optimizer.step()
        average.step(network.parameters())
    assert 0 < clipped < RECIPE.steps
    toy.train(tmp_path)
    for found, expected in zip(toy.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(found, expected)
    found = [*toy.trainer.averages[0].parameters()]
    for value, expected in zip(found, average.shadow_params, strict=True):
        torch.testing.assert_close(value, expected)
    largest = max(
        (a - b).abs().max().item() for a, b in zip(found, toy.network.parameters(), strict=True)
    )
    assert largest > 1e-3, "the averages are not the weights"


def test_a_training_learns_and_keeps_its_curve_looks_and_pictures(tmp_path) -> None:
    toy = Toy()
    trainer = toy.train(tmp_path)
    assert trainer.step == RECIPE.steps
    assert [row["step"] for row in trainer.curve] == list(ROWS)
    for first, row in zip((0, *ROWS), trainer.curve, strict=False):
        stretch = [toy.seen[step] for step in range(first, int(row["step"]))]
        for name in ("loss", "size"):
            assert row[name] == pytest.approx(np.mean([seen[name] for seen in stretch]), abs=1e-6)
    assert trainer.curve[-1]["loss"] < trainer.curve[0]["loss"] / 2
    assert [row["step"] for row in trainer.looks] == list(LOOKS)
    assert trainer.looks[-1]["bias"] == trainer.averages[0][2].bias.item()
    assert len({row["bias"] for row in trainer.looks}) == len(LOOKS)
    assert {step: int(value.max()) for step, value in trainer.pictures.items()} == {
        step: step for step in LOOKS
    }
    seconds = [row["seconds"] for row in trainer.curve]
    assert seconds == sorted(seconds)
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_training_of_fewer_steps_than_rows_has_a_row_for_each(tmp_path) -> None:
    trainer = Toy(replace(RECIPE, steps=3)).train(tmp_path, rows=40, looks=8)
    assert [row["step"] for row in trainer.curve] == [1, 2, 3]
    assert [row["step"] for row in trainer.looks] == [1, 2, 3]


def test_figures_tell_the_recipe_and_how_it_went(tmp_path) -> None:
    trainer = Toy().train(tmp_path)
    figures = trainer.figures()
    assert Recipe(**figures["settings"]) == RECIPE
    assert (figures["seed"], figures["steps"]) == (7, 23)
    assert figures["parameters"] == 10 * 6 + 2 * 6 + 6 + 1
    assert (figures["curve"], figures["judged"]) == (trainer.curve, trainer.looks)
    assert figures["seconds"] >= trainer.curve[-1]["seconds"]


@pytest.mark.parametrize("step", LOOKS[1:])
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path, caplog, step) -> None:
    """Its batches are functions of the step, so that all weights and figures have to agree."""
    whole = Toy().train(tmp_path)
    interrupted(tmp_path, step)
    assert (tmp_path / CHECKPOINT).exists()
    toy = Toy()
    with caplog.at_level(logging.INFO):
        trainer = toy.train(tmp_path)
    kept = LOOKS[LOOKS.index(step) - 1]
    assert f"resuming at step {kept}" in caplog.text
    assert sorted(toy.seen) == list(range(kept, RECIPE.steps))
    assert without_seconds(trainer.curve) == without_seconds(whole.curve)
    assert without_seconds(trainer.looks) == without_seconds(whole.looks)
    assert list(trainer.pictures) == list(LOOKS)
    assert all(torch.equal(trainer.pictures[n], whole.pictures[n]) for n in LOOKS)
    assert same_weights(trainer.networks, whole.networks)
    assert same_weights(trainer.averages, whole.averages)
    for rows in (trainer.curve, trainer.looks):
        seconds = [row["seconds"] for row in rows]
        assert seconds == sorted(seconds), "the clock goes on from the checkpoint"
    assert not (tmp_path / CHECKPOINT).exists()


def test_the_clock_goes_on_from_the_checkpoint(tmp_path, monkeypatch) -> None:
    times = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    interrupted(tmp_path, 12)
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)["seconds"]
    assert kept > 0
    for _ in range(100):  # what passes between the two does not count
        next(times)
    trainer = Toy().train(tmp_path)
    assert kept < trainer.seconds < kept + 20


def test_a_training_draws_by_its_seed_and_other_numbers_after_a_checkpoint(tmp_path) -> None:
    drawn = []
    for recipe in (RECIPE, RECIPE, replace(RECIPE, seed=8)):
        toy = Toy(recipe, drawn=True)
        toy.train(tmp_path)
        drawn.append(torch.cat(toy.tokens))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    interrupted(tmp_path, 12, drawn=True)
    toy = Toy(drawn=True)
    toy.train(tmp_path)
    again = torch.cat(toy.tokens)
    assert not torch.equal(again, drawn[0][: len(again)])


def test_a_checkpoint_of_another_recipe_is_left_alone(tmp_path, caplog) -> None:
    interrupted(tmp_path, 12, replace(RECIPE, peak=0.02))
    toy = Toy()
    with caplog.at_level(logging.WARNING):
        trainer = toy.train(tmp_path)
    assert "another recipe" in caplog.text
    assert CHECKPOINT in caplog.text
    assert sorted(toy.seen) == list(range(RECIPE.steps))
    assert [row["step"] for row in trainer.curve] == list(ROWS)
    (tmp_path / "new").mkdir()
    assert same_weights(trainer.networks, Toy().train(tmp_path / "new").networks)


class Code:
    """What a pickle runs when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.mkdir, (self.folder,)


def test_a_checkpoint_that_holds_code_is_refused(tmp_path) -> None:
    torch.save({"recipe": Code(tmp_path / "harm")}, tmp_path / CHECKPOINT)
    with pytest.raises(Exception, match="[Ww]eights.only"):
        Toy().train(tmp_path)
    assert not (tmp_path / "harm").exists()


def test_on_a_cpu_a_step_is_called_and_nothing_is_rounded() -> None:
    calls: list[int] = []
    step = Recorded(lambda: calls.append(1), "cpu")
    for _ in range(module.WARM_UP_CALLS + 3):
        step()
    assert len(calls) == module.WARM_UP_CALLS + 3
    with half_precision("cpu"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32


def test_a_network_is_saved_as_fp16_and_stays_as_it_is(tmp_path) -> None:
    torch.manual_seed(0)
    network = micro_text_encoders()[0]
    save_half(network, tmp_path / "text_encoder")
    written = load_file(tmp_path / "text_encoder" / "model.fp16.safetensors")
    assert {value.dtype for value in written.values()} == {torch.float16}
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    loaded = type(network).from_pretrained(
        tmp_path / "text_encoder", variant="fp16", dtype=torch.float32
    )
    for found, value in zip(loaded.parameters(), network.parameters(), strict=True):
        assert torch.equal(found, value.half().float())


def test_pictures_become_pixels_and_rows_of_a_grid(tmp_path) -> None:
    levels = torch.tensor([0.0, 0.5 / 255, 1.5 / 255, 1.6 / 255, 1.0])
    assert to_pixels(levels.view(1, 1, 1, 5)).flatten().tolist() == [0, 0, 2, 2, 255]
    coloured = torch.arange(3).view(1, 3, 1, 1).expand(2, 3, 4, 5) / 255
    assert to_pixels(coloured).shape == (2, 4, 5, 3)
    assert to_pixels(coloured)[1, 2, 3].tolist() == [0, 1, 2]
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    images[:, 1, 0] += 100
    rows = {3: [[0, 1, 2], [3, 4, 5]], 4: [[0, 1, 2, 3], [4, 5, 0, 0]], GRID_COLUMNS: [range(6)]}
    for columns, numbers in rows.items():
        save_png(tmp_path / "new" / "grid.png", grid(images, columns))
        whole = np.asarray(Image.open(tmp_path / "new" / "grid.png"))
        assert whole[::2, ::2, 0].tolist() == [list(row) for row in numbers]
        marked = (whole[1::2, ::2, 0].astype(int) - whole[::2, ::2, 0]).flatten()
        assert marked.tolist() == [100] * 6 + [0] * (len(marked) - 6)


def test_pictures_of_a_training_are_named_by_their_step(tmp_path) -> None:
    trainer = Toy().train(tmp_path)
    trainer.write_pictures(tmp_path / "samples")
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == [f"{step:06d}.png" for step in LOOKS]
    assert np.asarray(Image.open(tmp_path / "samples" / "000012.png")).max() == 12


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
@pytest.mark.parametrize("stops", [None, 12])
def test_recorded_steps_train_as_plain_ones(tmp_path, monkeypatch, stops) -> None:
    """The same random numbers are drawn, so that losses and weights agree, resumed or not."""
    trained = []
    for calls in (module.WARM_UP_CALLS, 10**9):
        monkeypatch.setattr(module, "WARM_UP_CALLS", calls)
        if stops is not None:
            interrupted(tmp_path, stops, device="cuda", drawn=True)
        toy = Toy(device="cuda", drawn=True)
        trained.append(toy.train(tmp_path, rows=RECIPE.steps))
    recorded, plain = trained
    assert len(recorded.curve) == len(plain.curve)
    for row, expected in zip(*map(without_seconds, (recorded.curve, plain.curve)), strict=True):
        assert row == pytest.approx(expected, abs=1e-4)
    for found, expected in zip(
        recorded.parameters + recorded.averaged, plain.parameters + plain.averaged, strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_a_recorded_step_reads_what_changes_between_its_calls() -> None:
    """Each call is done once, the recorded one too, and reads weights as they are then."""
    weight = torch.ones(8, 8, device="cuda")
    total = torch.zeros((), device="cuda")

    def step() -> None:
        with half_precision("cuda"):
            product = weight @ weight
        assert product.dtype == torch.bfloat16
        total.add_(product[0, 0])

    recorded = Recorded(step, "cuda")
    expected = 0
    for number in range(1, 8):
        weight.fill_(number)
        recorded()
        expected += 8 * number**2
        assert float(total) == expected
    assert recorded.graph is not None
