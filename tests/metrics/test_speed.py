"""How fast a variant is, from its shards: intervals that hold, reasons for doubt."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from t2i.metrics.speed import shard_speed, speed_up


def shards(*rates: float, **usage: Any) -> list[dict[str, Any]]:
    return [{"images_per_second": rate, "usage": usage} for rate in rates]


def test_the_interval_is_students_about_the_median() -> None:
    rates = (2.0, 2.1, 2.05, 2.2, 1.95)
    speed = shard_speed(shards(*rates))
    low, high = stats.t.interval(
        0.95, len(rates) - 1, loc=math.log(2.05), scale=stats.sem(np.log(rates))
    )
    assert speed["images_per_second"] == 2.05
    assert speed["interval"] == pytest.approx([math.exp(low), math.exp(high)])
    assert speed["shards"] == 5


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    of_rate = of_ratio = 0
    for _ in range(1000):
        one, other = (np.exp(rng.normal(math.log(rate), 0.05, 5)) for rate in (3.0, 2.0))
        fast, slow = shard_speed(shards(*one)), shard_speed(shards(*other))
        low, high = fast["interval"]
        of_rate += low <= 3.0 <= high
        low, high = speed_up(fast, slow)["interval"]
        of_ratio += low <= 1.5 <= high
    # The median of five normal values strays 1.2 times as far as their mean.
    assert 860 <= of_rate <= 960
    assert 880 <= of_ratio <= 970


def test_welchs_freedom_is_that_of_scipy() -> None:
    one, other = (3.0, 3.3, 2.9, 3.1), (2.0, 2.4, 1.9)
    found = speed_up(shard_speed(shards(*one)), shard_speed(shards(*other)))
    exact = stats.ttest_ind(np.log(one), np.log(other), equal_var=False).confidence_interval()
    low, high = np.log(found["interval"])
    assert high - low == pytest.approx(exact.high - exact.low)
    assert found["ratio"] == pytest.approx(3.05 / 2.0)


def test_a_single_shard_has_no_interval() -> None:
    alone, several = shard_speed(shards(2.0)), shard_speed(shards(1.0, 1.0))
    assert alone["interval"] is None
    assert speed_up(alone, several) == {"ratio": 2.0, "interval": None}
    assert speed_up(several, several) == {"ratio": 1.0, "interval": [1.0, 1.0]}


@pytest.mark.parametrize(
    ("rates", "usage", "said"),
    [
        ((2.0, 2.1), {"waited": 0.04, "gpu_processes": 1, "held_down": []}, []),
        ((2.0, 2.1), {"waited": 0.06}, ["a job waited 6% of its time for a processor"]),
        ((2.0, 2.1), {"gpu_processes": 2}, ["another program used the GPU"]),
        ((2.0, 2.1), {"held_down": ["heat"]}, ["the GPU's clock was held down by heat"]),
        ((2.0, 2.3), {}, ["rates of shards from 2 to 2.3 images/s"]),
    ],
)
def test_a_busy_machine_is_named(rates, usage, said) -> None:
    assert shard_speed(shards(*rates, **usage))["busy"] == said


def test_what_shards_use_is_put_together() -> None:
    first = shards(2.0, memory_bytes=10, gpu_memory_bytes=30, watts=600.0)
    second = shards(3.0, memory_bytes=20, gpu_memory_bytes=20, watts=690.0)
    speed = shard_speed(first + second + [{"images_per_second": 2.5}])
    assert (speed["memory_bytes"], speed["gpu_memory_bytes"]) == (20, 30)
    assert speed["watts"] == 645.0
    assert speed["joules"] == pytest.approx((300 + 230) / 2)
    nothing = shard_speed([{"images_per_second": 2.5}])
    assert nothing["joules"] is nothing["watts"] is nothing["memory_bytes"] is None
