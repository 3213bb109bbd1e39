"""The model card holds every figure and what a reader must know."""

from __future__ import annotations

import re

import pytest

from fake_training import (
    CAPTIONS,
    training,
)
from report_page import leaves
from t2i.base.stats import wilson_interval
from t2i.micro.card import model_card
from t2i.micro.record import COMMAND, LABEL, columns


def test_card_shows_every_figure() -> None:
    parts, evaluation = training()
    card = model_card(parts, evaluation)
    numbers = {float(text.replace(",", "")) for text in re.findall(r"\d[\d,]*\.?\d*", card)}
    wanted = [evaluation["drawn"], evaluation["bytes"], *evaluation["ways"].values()]
    for part in parts.values():
        wanted += [part[key] for key in ("parameters", "steps", "seconds", "seed", "figures")]
    for value in leaves(wanted):
        assert any(number == pytest.approx(value, rel=5e-4, abs=6e-4) for number in numbers), value
    low, high = wilson_interval(504, CAPTIONS)
    assert f"0.984 [{low:.3f}, {high:.3f}]" in card
    low, high = wilson_interval(464, CAPTIONS)
    assert f"In the way `fp32`, 0.906 [{low:.3f}, {high:.3f}] of the pictures" in card
    assert f"All jobs together: {321.75 + 322.75 + 323.75:.1f} s" in card
    assert all(f"`{name}`: " in card for name in columns(evaluation) if name != "own_measure")


def test_card_says_what_a_reader_must_know() -> None:
    card = model_card(*training())
    assert card.count(LABEL) == 2
    assert COMMAND in card
    assert "2,304 scenes" in card
    assert "8 phrasings" in card
    assert "512 of the scenes are held out" in card
    assert "painted on NVIDIA H200" in card
    assert "no photographs" in card
    assert "[LICENSE](../LICENSE)" in card
    files = re.findall(r"^\| (\S+) \|", card[card.index("## Files") :], re.MULTILINE)
    assert files == ["File", "---", "micro-clip/a.json", "micro-sdxl/unet.safetensors", "all"]
    headings = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert headings == [
        "Structure", "Data", "Training", "Figures", "Intended use", "Limitations", "Licence",
        "Files",
    ]  # fmt: skip


def test_tables_of_the_card_are_whole() -> None:
    card = model_card(*training())
    assert "<" not in card
    for table in re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE):
        cells = {len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1
