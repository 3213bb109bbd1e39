"""What goes wrong in a LoadGen test ends its process soon, with the cause in the log."""

import t2i.job.torch_shim  # noqa: F401

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from loadgen_runs import stand_in_test, write_stand_in
from micro_model import SETTINGS, MicroModel
from t2i.base.files import file_table, read_json
from t2i.engine.build import build_engine
from t2i.engine.variant import Variant
from t2i.loadgen.children import LoadGenError
from t2i.loadgen.run import TestRequest, _check_room, _check_whole, run_test
from t2i.prompts.tokens import write_tokens

SCRIPTS = Path(__file__).parents[2] / "scripts"
SECONDS = 30  # within which a test that cannot go on has ended
JOB = """
import pickle, sys
from pathlib import Path
from t2i.job.log import job_log
from t2i.loadgen.run import run_test
with job_log(sys.argv[1]):
    run_test(pickle.loads(bytes.fromhex(sys.argv[2])), Path(sys.argv[3]))
"""
FAULTY = """
calls = 0

def late(pipeline):
    decode = pipeline.vae.decode
    def counted(*arguments, **named):
        global calls
        calls += 1
        if calls > 9:
            raise ArithmeticError("this picture cannot be painted")
        return decode(*arguments, **named)
    pipeline.vae.decode = counted
    return pipeline

def early(pipeline):
    raise ArithmeticError("this engine cannot be loaded")
"""


class Job:
    """A LoadGen test in its own process, as a rule runs it."""

    def __init__(self, request: TestRequest, folder: Path, before: Sequence[str] = ()) -> None:
        """`before` are words before the command."""
        self.log, self.folder = folder / "job.log", folder / "published" / "run"
        self.marks = [str(request.engine.resolve()), str(self.folder.parent.resolve())]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [
                *before,
                *(sys.executable, "-c", JOB, self.log, pickle.dumps(request).hex(), self.folder),
            ],
            env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
            stderr=subprocess.PIPE,
            text=True,
        )

    def processes(self, word: str) -> list[int]:
        """Processes with `word` and a file of this test in their command line."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if word in line and any(mark in line for mark in self.marks):
                found.append(int(entry.name))
        return found

    def wait_for_loadgen(self) -> None:
        """Wait until LoadGen has issued queries."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for path in self.folder.parent.glob(".run.*/mlperf_log_detail.txt"):
                if "Starting performance mode" in path.read_text():
                    return
            time.sleep(0.05)
        raise TimeoutError(self.log.read_text())

    def check_failure(self, *messages: str, since: float | None = None) -> None:
        """It has ended with code 1 in time, said why, and left nothing."""
        _, shown = self.process.communicate(timeout=2 * SECONDS)
        assert time.monotonic() - (since or self.started) < SECONDS
        log = self.log.read_text()
        assert self.process.returncode == 1, log
        assert "Traceback (most recent call last)" in log
        for message in messages:
            assert message in log
            assert message in shown
        assert "LoadGenError" in shown
        self.check_nothing_is_left()

    def check_nothing_is_left(self) -> None:
        """No process lives on, and no folder is there, hidden or not."""
        end = time.monotonic() + 10
        while (left := self.processes("t2i.loadgen")) and time.monotonic() < end:
            time.sleep(0.05)
        assert not left
        assert not list(self.folder.parent.glob("*"))
        assert not list(self.folder.parent.glob(".*"))


@pytest.fixture
def slow(tmp_path: Path) -> TestRequest:
    """A test of a stand-in that would take minutes."""
    request = stand_in_test(tmp_path)
    engine = write_stand_in(tmp_path / "slow", 16, 4.0)
    return replace(request, engine=engine, time=300.0, stall=20.0)


@pytest.fixture
def patched(micro_model: MicroModel, tmp_path: Path) -> Callable[[str], TestRequest]:
    """Tests of a model with a patch that fails."""

    def build(function: str) -> TestRequest:
        (tmp_path / "faulty.py").write_text(FAULTY)
        told = {**SETTINGS, "steps": 1, "patch": f"{tmp_path / 'faulty.py'}:{function}"}
        request = stand_in_test(tmp_path)
        (tmp_path / "model").mkdir()
        build_engine(micro_model.model, tmp_path / "model", Variant("fp32", **told))
        write_tokens(tmp_path / "tokens.npz", micro_model.tokens())
        return replace(request, engine=tmp_path / "model", latents=micro_model.latent)

    return build


def test_a_killed_worker(slow: TestRequest, tmp_path: Path) -> None:
    job = Job(slow, tmp_path)
    job.wait_for_loadgen()
    (worker,) = job.processes("t2i.loadgen.worker")
    os.kill(worker, signal.SIGKILL)
    job.check_failure(
        f"worker 0 (process {worker}) has died: killed by SIGKILL", since=time.monotonic()
    )


def test_an_idle_worker_is_missed_too(slow: TestRequest, tmp_path: Path) -> None:
    """With minutes to go until the next query."""
    job = Job(replace(slow, scenario="Server", qps=0.001), tmp_path)
    job.wait_for_loadgen()
    time.sleep(1)  # the first query is answered by then
    (worker,) = job.processes("t2i.loadgen.worker")
    os.kill(worker, signal.SIGKILL)
    job.check_failure("has died: killed by SIGKILL", since=time.monotonic())


def test_a_stalled_worker(slow: TestRequest, tmp_path: Path) -> None:
    job = Job(replace(slow, stall=3.0), tmp_path)
    job.wait_for_loadgen()
    (worker,) = job.processes("t2i.loadgen.worker")
    os.kill(worker, signal.SIGSTOP)
    job.check_failure(
        f"worker 0 (process {worker}) has stalled: no answer for 3 s",
        "raise loadgen.stall",
        since=time.monotonic(),
    )


def test_a_worker_that_never_gets_ready(slow: TestRequest, tmp_path: Path) -> None:
    engine = write_stand_in(tmp_path / "slowest", 16, 0.01)
    job = Job(replace(slow, engine=engine, stall=2.0), tmp_path)
    job.check_failure("no worker has made progress for 2 s (worker 0 measuring)")


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["Offline", "Server"])
def test_an_engine_that_fails_at_one_sample(
    patched: Callable[[str], TestRequest], tmp_path: Path, scenario: str
) -> None:
    request = replace(patched("late"), scenario=scenario, time=300.0, max_batchsize=1)
    job = Job(request, tmp_path)
    job.wait_for_loadgen()
    job.check_failure(
        "worker 0 failed: Traceback",
        "in counted",
        "this picture cannot be painted",
        since=time.monotonic(),
    )


@pytest.mark.slow
def test_an_engine_that_cannot_be_loaded(
    patched: Callable[[str], TestRequest], tmp_path: Path
) -> None:
    Job(patched("early"), tmp_path).check_failure("in early", "this engine cannot be loaded")


def test_too_few_queries(tmp_path: Path) -> None:
    request = stand_in_test(tmp_path)
    request = replace(request, scenario="SingleStream", time=1.0, target_latency=1000.0)
    Job(request, tmp_path).check_failure(
        "Ran out of generated queries", "set loadgen.target_latency lower"
    )


def test_a_dead_loadgen(slow: TestRequest, tmp_path: Path) -> None:
    job = Job(slow, tmp_path)
    job.wait_for_loadgen()
    (loadgen,) = job.processes("-m\0t2i.loadgen.run")
    os.kill(loadgen, signal.SIGSEGV)
    job.check_failure("LoadGen's process", "has died: killed by SIGSEGV", since=time.monotonic())


def test_a_killed_job_takes_all_with_it(slow: TestRequest, tmp_path: Path) -> None:
    job = Job(slow, tmp_path)
    job.wait_for_loadgen()
    assert len(job.processes("t2i.loadgen")) == 3  # the job, LoadGen and a worker
    job.process.kill()
    job.process.communicate()
    end = time.monotonic() + 10
    while (left := job.processes("t2i.loadgen")) and time.monotonic() < end:
        time.sleep(0.05)
    assert not left
    assert not job.folder.exists()


def test_a_stopped_loadgen(slow: TestRequest, tmp_path: Path) -> None:
    """LoadGen's own process says nothing any more, and its workers have nothing to do."""
    job = Job(replace(slow, stall=3.0), tmp_path)
    job.wait_for_loadgen()
    (loadgen,) = job.processes("-m\0t2i.loadgen.run")
    os.kill(loadgen, signal.SIGSTOP)
    job.check_failure(
        f"LoadGen's process (process {loadgen}) has stalled: no answer for 3 s",
        since=time.monotonic(),
    )


def test_a_terminated_job_says_so(slow: TestRequest, tmp_path: Path) -> None:
    job = Job(slow, tmp_path)
    job.wait_for_loadgen()
    job.process.terminate()
    job.process.communicate(timeout=SECONDS)
    assert job.process.returncode == 1
    assert "stopped by SIGTERM" in job.log.read_text()
    job.check_nothing_is_left()


def test_the_stall_follows_from_the_measured_time_of_a_batch(tmp_path: Path) -> None:
    request = replace(stand_in_test(tmp_path), stall=None)
    run_test(request, tmp_path / "published" / "run")
    facts = read_json(tmp_path / "published" / "run" / "run.json")
    batch = facts["settings"]["max_batchsize"] / facts["measured"]["images_per_second"]
    assert facts["settings"]["stall"] == pytest.approx(30 + batch)


def test_the_log_says_what_the_start_of_a_worker_takes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_test(stand_in_test(tmp_path), tmp_path / "test")
    said = re.findall(r"worker 0: (.+) took (\d+\.\d) s\n", capfd.readouterr().err)
    phases = ["starting", "waiting for a device", "loading the engine", "warming up", "measuring"]
    assert [phase for phase, _ in said] == phases
    assert float(said[0][1]) > 0


def test_digests_of_all_files_are_taken_when_a_test_ends(tmp_path: Path) -> None:
    folder = tmp_path / "published" / "run"
    run_test(stand_in_test(tmp_path), folder)
    found = file_table(folder)
    del found["run.json"]
    assert read_json(folder / "run.json")["files"] == found
    assert {"mlperf_log_detail.txt", "mlperf_log_accuracy.json", "user.conf"} <= found.keys()


def test_a_limit_of_files_that_is_too_low_for_the_log(tmp_path: Path) -> None:
    request = stand_in_test(tmp_path)
    engine = write_stand_in(tmp_path / "large", 512, 1000.0)
    limited = ("bash", "-c", 'ulimit -f 8000 && exec "$@"', "bash")
    job = Job(replace(request, engine=engine, mode="accuracy"), tmp_path, limited)
    job.check_failure("the accuracy log needs", "ulimit -f")


def test_a_disk_that_is_too_small_for_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(stand_in_test(tmp_path), mode="accuracy", count=5000)
    monkeypatch.setattr("t2i.job.disk.free_bytes", lambda _: 10**9)
    with pytest.raises(LoadGenError, match=r"LoadGen's logs needs 31\.5 GB, but .* has only 1"):
        _check_room(tmp_path / "part", request, 1024)


@pytest.mark.parametrize("kept", [0, 100, 2 * 3 * 16 * 16 * 7 + 100])
def test_a_cut_accuracy_log_is_no_log(tmp_path: Path, kept: int) -> None:
    request = replace(stand_in_test(tmp_path), mode="accuracy")
    folder = tmp_path / "published" / "run"
    run_test(request, folder)
    log = folder / "mlperf_log_accuracy.json"
    _check_whole(log, request, (16, 16))
    log.write_bytes(log.read_bytes()[:kept])
    with pytest.raises(LoadGenError, match="full"):
        _check_whole(log, request, (16, 16))


def test_remains_of_a_killed_job_are_removed(slow: TestRequest, tmp_path: Path) -> None:
    job = Job(slow, tmp_path)
    job.wait_for_loadgen()
    job.process.kill()
    job.process.communicate()
    time.sleep(1)
    assert list(job.folder.parent.glob(".run.*.part"))
    (tmp_path / "again").mkdir()
    run_test(stand_in_test(tmp_path / "again"), job.folder)
    assert not list(job.folder.parent.glob(".run.*"))
    assert job.folder.is_dir()
