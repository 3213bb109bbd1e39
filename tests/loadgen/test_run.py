"""LoadGen tests from their request to the published folder, with LoadGen itself."""

import t2i.job.torch_shim  # noqa: F401

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import peers
from loadgen_runs import (
    LOGS,
    logged_images,
    request_for,
    stand_in_test,
    write_inputs,
    write_stand_in,
)
from micro_model import SETTINGS, MicroModel
from t2i.base.files import read_json
from t2i.engine.build import build_engine
from t2i.engine.painter import load_painter
from t2i.engine.stand_in import stand_in_image
from t2i.engine.variant import Variant
from t2i.loadgen import run
from t2i.loadgen.children import LoadGenError
from t2i.loadgen.logs import latencies, read_detail
from t2i.loadgen.run import TestRequest, expected, run_test
from t2i.loadgen.sut import Batcher, Sample
from t2i.mlperf import AUDITS, MODES, ROUNDS, SCENARIOS
from t2i.prompts.tokens import write_tokens

ORDINARY = [(scenario, mode) for scenario in SCENARIOS for mode in MODES[:-1]]


@pytest.fixture(scope="module")
def stand_in_request(tmp_path_factory: pytest.TempPathFactory) -> TestRequest:
    """An Offline performance test of a quick stand-in."""
    return stand_in_test(tmp_path_factory.mktemp("stand-in"))


def check_log(folder: Path, images: dict[int, np.ndarray]) -> None:
    """Every logged image is the one that the painter makes for that sample."""
    side = images[0].shape[0]
    for index, logged in logged_images(folder, side).items():
        for pixels in logged:
            assert np.array_equal(pixels, images[index])


def check_facts(request: TestRequest, folder: Path, side: int) -> None:
    """What run.json and LoadGen's own detail log say of the test."""
    facts = read_json(folder / "run.json")
    for key in ("run", "variant", "model", "scenario", "mode", "round"):
        assert facts[key] == getattr(request, key)
    assert facts["image"] == [side, side]
    assert facts["engine"] == read_json(request.engine / "engine.json")["digest"]
    assert len(facts["devices"]) == facts["settings"]["workers"] == 1
    assert facts["not_finite"] == 0
    detail = read_detail(folder / "mlperf_log_detail.txt")
    assert not detail.errors
    assert detail.get("effective_scenario") == request.scenario
    assert detail.get("effective_performance_sample_count") == request.count
    assert detail.get("qsl_reported_total_count") == request.count
    assert detail.get("effective_qsl_rng_seed") == ROUNDS[request.round].qsl_rng_seed
    assert (detail.get("effective_performance_issue_same") is True) == (request.mode == "TEST04")


@pytest.mark.parametrize(("scenario", "mode"), ORDINARY)
def test_every_scenario_in_every_mode(
    stand_in_request: TestRequest, tmp_path: Path, scenario: str, mode: str
) -> None:
    request = replace(stand_in_request, scenario=scenario, mode=mode)
    folder = tmp_path / mode
    folder.mkdir()
    (folder / "of an older run").touch()
    run_test(request, folder)
    audit = {"audit.config"} if mode in AUDITS else set()
    names = {*LOGS, "user.conf", "latencies.npy", "run.json", *audit}
    assert {path.name for path in folder.iterdir()} == names
    assert [path.name for path in tmp_path.iterdir()] == [mode]
    check_facts(request, folder, 16)
    check_log(folder, {index: stand_in_image(index, 16) for index in range(7)})
    logged = logged_images(folder, 16)
    if mode == "accuracy":
        assert sorted(logged) == list(range(7))
    if mode == "TEST01":
        assert logged
    if mode == "performance":
        assert not logged
    seconds = np.load(folder / "latencies.npy", allow_pickle=False)
    assert seconds.dtype == np.float64
    assert np.isfinite(seconds).all()
    if mode in ("performance", "TEST04"):
        asked = read_json(folder / "run.json")["settings"]
        assert asked["min_query_count"] == 7  # fewer than LoadGen's 100: one for each sample
        if scenario == "Offline":
            assert len(seconds) == 1
        else:
            assert len(seconds) >= 7
            # LoadGen's median: a busy machine delays single queries between two clocks.
            ours = np.sort(seconds)[len(seconds) // 2]
            theirs = latencies(read_detail(folder / "mlperf_log_detail.txt"), scenario)["50"]
            assert ours == pytest.approx(theirs, rel=0.1, abs=2e-3)


def test_the_peak_of_server_is_searched(stand_in_request: TestRequest, tmp_path: Path) -> None:
    request = replace(
        stand_in_request,
        scenario="Server",
        mode="FindPeakPerformance",
        max_latency=0.1,
        batch_wait=0.002,
    )
    run_test(request, tmp_path / "peak")
    check_facts(request, tmp_path / "peak", 16)
    detail = (tmp_path / "peak" / "mlperf_log_detail.txt").read_text()
    assert "Found peak performance field" in detail


def test_the_peak_of_other_scenarios_is_refused(
    stand_in_request: TestRequest, tmp_path: Path
) -> None:
    with pytest.raises(LoadGenError, match="FindPeakPerformance is for Server alone"):
        run_test(replace(stand_in_request, mode="FindPeakPerformance"), tmp_path / "peak")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def model_request(micro_model: MicroModel, tmp_path_factory: pytest.TempPathFactory) -> TestRequest:
    """A test of a random model that takes one step."""
    folder = tmp_path_factory.mktemp("loadgen-model")
    engine = folder / "engine"
    engine.mkdir()
    build_engine(micro_model.model, engine, Variant("fp32", **{**SETTINGS, "steps": 1}))
    write_inputs(folder)
    write_tokens(folder / "tokens.npz", micro_model.tokens())
    request = request_for(engine, folder, "Offline", "performance")
    return replace(request, latents=micro_model.latent)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_model_in_every_scenario(
    model_request: TestRequest, tmp_path: Path, scenario: str
) -> None:
    painter, manifest = load_painter(
        model_request.engine, model_request.tokens, model_request.latents, "cpu"
    )
    batch = 1 if scenario == "SingleStream" else manifest["batch_size"]
    indices = [*range(0, 7, batch)]
    images = np.concatenate(
        [painter.paint(range(first, min(first + batch, 7)), batch).pixels for first in indices]
    )
    request = replace(model_request, scenario=scenario, mode="accuracy")
    run_test(request, tmp_path / "accuracy")
    check_facts(request, tmp_path / "accuracy", 64)
    logged = logged_images(tmp_path / "accuracy", 64)
    assert sorted(logged) == list(range(7))
    for index, found in logged.items():
        largest, _ = peers.pixel_difference(found[0], images[index])
        assert largest == 0


def test_two_workers_share_the_work(stand_in_request: TestRequest, tmp_path: Path) -> None:
    engine = write_stand_in(tmp_path / "engine", 16, 40.0)
    request = replace(stand_in_request, engine=engine, workers=2, time=0.5, batch_wait=0.01)
    run_test(request, tmp_path / "run")
    facts = read_json(tmp_path / "run" / "run.json")
    assert len(facts["devices"]) == facts["settings"]["workers"] == 2
    assert facts["measured"]["images_per_second"] == pytest.approx(80, rel=0.1)
    samples = read_detail(tmp_path / "run" / "mlperf_log_detail.txt").get(
        "effective_samples_per_query"
    )
    (seconds,) = np.load(tmp_path / "run" / "latencies.npy")
    assert samples / 80 <= seconds <= samples / 80 + 0.2


def test_a_stand_in_keeps_its_pace(stand_in_request: TestRequest, tmp_path: Path) -> None:
    engine = write_stand_in(tmp_path / "engine", 16, 50.0, batch_size=4)
    request = replace(stand_in_request, engine=engine, scenario="SingleStream", mode="accuracy")
    run_test(request, tmp_path / "single")
    assert np.load(tmp_path / "single" / "latencies.npy").min() >= 1 / 50
    run_test(replace(request, scenario="Offline"), tmp_path / "offline")
    (seconds,) = np.load(tmp_path / "offline" / "latencies.npy")
    assert 7 / 50 <= seconds < 8 / 50  # the short batch counts its three images alone


def test_more_samples_than_captions_are_refused(
    stand_in_request: TestRequest, tmp_path: Path
) -> None:
    with pytest.raises(LoadGenError, match=r"has 8 captions, fewer than the 9 samples.*count"):
        run_test(replace(stand_in_request, count=9), tmp_path / "run")


def samples(*indices: int) -> list[Sample]:
    return [Sample(0, index, 0, time.perf_counter()) for index in indices]


def taken(batch: list[Sample]) -> list[int]:
    return [sample.number for sample in batch]


def test_batches_are_full_and_in_the_order_of_issue() -> None:
    batcher = Batcher(2, 0)
    batcher.add(samples(4, 2, 9))
    assert [taken(batcher.take()), taken(batcher.take())] == [[4, 2], [9]]
    batcher.close()
    assert batcher.take() == []


def test_a_short_batch_goes_when_its_oldest_sample_has_waited() -> None:
    batcher = Batcher(3, 0.1)
    start = time.perf_counter()
    batcher.add(samples(1))
    threading.Timer(0.05, batcher.add, [samples(2)]).start()
    assert taken(batcher.take()) == [1, 2]
    assert 0.1 <= time.perf_counter() - start < 0.145
    start = time.perf_counter()
    batcher.add(samples(1, 2, 3, 4))
    assert taken(batcher.take()) == [1, 2, 3]
    threading.Timer(0.02, batcher.flush).start()
    assert taken(batcher.take()) == [4]
    assert time.perf_counter() - start < 0.09


def test_a_batch_ahead_is_not_taken_from_an_idle_worker() -> None:
    batcher = Batcher(2, 0)
    assert batcher.take_ahead() == []
    batcher.add(samples(1, 2))
    assert taken(batcher.take_ahead()) == [1, 2]
    idle = threading.Thread(target=batcher.take, daemon=True)
    idle.start()
    while not batcher._idle:
        time.sleep(0.001)
    with batcher._changed:  # the idle worker has yet to wake
        batcher._waiting.extend(samples(3, 4))
        assert batcher.take_ahead() == []
        batcher._waiting.extend(samples(5))
        assert taken(batcher.take_ahead()) == [3, 4]
    batcher.close()
    idle.join()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"qps": 3.0}, (3.0, None)),
        ({"scenario": "Server"}, (7.2, None)),
        ({"scenario": "Server", "mode": "FindPeakPerformance"}, (4.0, None)),
        ({"scenario": "SingleStream"}, (None, 250.0)),
        ({"scenario": "MultiStream"}, (None, 187.5)),
        ({"scenario": "MultiStream", "target_latency": 40.0}, (None, 40.0)),
    ],
)
def test_what_is_not_given_follows_from_the_bare_rate(
    stand_in_request: TestRequest, changes: dict[str, object], told: tuple[float, float]
) -> None:
    assert expected(replace(stand_in_request, **changes), 8.0, 0.5, together=4) == told


@pytest.mark.parametrize("rate", [0.31, 3.05, 20.0, 777.7])
@pytest.mark.parametrize("seconds", [0.5, 1.0, 30.0, 600.0])
@pytest.mark.parametrize("together", [1, 8, 64])
def test_offline_has_whole_batches(
    stand_in_request: TestRequest, rate: float, seconds: float, together: int
) -> None:
    """And more of them than at a fifth above the measured rate by less than one."""
    request = replace(stand_in_request, time=seconds)
    qps, _ = expected(request, rate, 1.0, together)
    assert qps is not None
    samples = int(1.1 * seconds * qps)  # as LoadGen counts
    assert samples % together == 0
    assert 0 <= samples - 1.2 * rate * 1.1 * seconds < together


def test_loadgen_asks_for_whole_batches(stand_in_request: TestRequest, tmp_path: Path) -> None:
    run_test(replace(stand_in_request, time=0.7), tmp_path / "test")
    facts = read_json(tmp_path / "test/run.json")["settings"]
    samples = read_detail(tmp_path / "test/mlperf_log_detail.txt").get(
        "effective_samples_per_query"
    )
    assert samples == int(1.1 * 0.7 * facts["qps"])
    assert samples % facts["max_batchsize"] == 0


def test_more_workers_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would wait for each other for ever."""
    monkeypatch.setattr(run, "visible_gpus", lambda: ["GPU-1"])
    with pytest.raises(LoadGenError, match="2 workers .* 1 can be used .* loadgen.workers to 1"):
        run._workers(2, "cuda")
    assert run._workers(None, "cuda") == run._workers(1, "cuda") == 1
    assert run._workers(2, "cpu") == 2
