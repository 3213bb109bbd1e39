"""What a job uses: beside a stand-in for nvidia-smi, and beside programs that compute."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t2i.job import usage
from t2i.job.usage import GpuWatch, Times, Usage, parse_sample, processes_on

GPU = "GPU-1234"
PROGRAM = """#!{python}
import sys, time
told = sys.argv[1:]
assert "--id=GPU-1234" in told, told
if any("compute-apps" in word for word in told):
    print("17\\n18")
    sys.exit()
assert "--query-gpu=power.draw,clocks.sm,clocks_event_reasons.active" in told
for line in ("600.5, 1700, 0x0000000000000004", "[N/A], 1700, 0x0", "700.5, 1800, 0x44"):
    print(line, flush=True)
while True:
    time.sleep(0.05)
    print("[N/A], [N/A], [N/A]", flush=True)
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in the place of nvidia-smi."""
    path = tmp_path / "nvidia-smi"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_samples_of_the_gpu_are_averaged(driver: None) -> None:
    with GpuWatch(GPU) as watch:
        end = time.monotonic() + 30
        while len(watch.samples) < 2 and time.monotonic() < end:
            time.sleep(0.02)
    assert watch.facts == {"watts": 650.5, "megahertz": 1750.0, "held_down": ["heat"]}
    assert watch._process.poll() is not None
    assert processes_on(GPU) == 2


def test_a_clock_that_is_rarely_held_down_is_not_named() -> None:
    watch = GpuWatch(GPU)
    assert watch.facts == {}
    watch.samples = [usage.Sample(600, 1700, 0x40)] + [usage.Sample(600, 1700, 0x4)] * 10
    assert watch.facts["held_down"] == []


@pytest.mark.parametrize("line", ["", "600", "[N/A], 1700, 0x0", "600, 1700, active", "a, b, c, d"])
def test_what_is_no_sample_is_left_out(line: str) -> None:
    assert parse_sample(line) is None


def test_the_watcher_ends_with_its_job(driver: None, tmp_path: Path) -> None:
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(usage.__file__).parents[2])!r})
from t2i.job.usage import GpuWatch
watch = GpuWatch("{GPU}").__enter__()
print(watch._process.pid, flush=True)
time.sleep(60)
"""
    job = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    pid = int(job.stdout.readline())
    job.kill()
    job.wait()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail("the watcher goes on")


def test_other_programs_are_told_from_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([Times(0.0, 100.0, 5.0, 1.0), Times(10.0, 135.0, 20.0, 1.5)])
    with Usage(None) as using:
        monkeypatch.setattr(using, "_times", lambda: next(times))
        using.begin()
        using.begin()  # of which the first counts
    assert using.facts["seconds"] == 10.0
    assert using.facts["other_cores"] == 2.0  # 35 s in all, 15 of them its own
    assert using.facts["waited"] == 0.05
    assert using.facts["memory_bytes"] > 2**20
    known = {"seconds", "memory_bytes", "cores", "other_cores", "waited", "load_average"}
    assert using.facts.keys() == known


def spin(seconds: float) -> None:
    """Compute until this process has used so many seconds of a processor."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_job_that_computes_is_not_another_program() -> None:
    with Usage(None) as using:
        using.begin()
        begun = using._times()
        spin(1.0)
        ended = using._times()
    assert ended.own - begun.own >= 0.9
    assert ended.worked - begun.worked >= 0.9
    assert using.facts["other_cores"] <= using.facts["cores"]


def test_a_job_that_shares_its_processor_waits_for_it() -> None:
    """Two that compute on one processor: each has to wait half of the time."""
    own = os.sched_getaffinity(0)
    core = min(own)
    end = "time.monotonic() + 60"
    program = f"import time\nend = {end}\nwhile time.monotonic() < end: pass"
    other = subprocess.Popen(
        [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, [{core}])\n{program}"]
    )
    try:
        os.sched_setaffinity(0, [core])
        time.sleep(0.5)  # until the other computes
        with Usage(None) as using:
            using.begin()
            spin(1.0)
    finally:
        os.sched_setaffinity(0, own)
        other.kill()
        other.wait()
    assert using.facts["waited"] > 0.3


def test_nothing_is_said_before_the_beginning() -> None:
    with Usage(None) as using:
        pass
    assert using.facts == {}
