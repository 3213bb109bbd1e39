"""A GPU belongs to one job, and what the scheduler assigned is honoured."""

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from t2i.base.threads import THREAD_VARIABLES, limit_threads
from t2i.job import device
from t2i.job.device import DeviceError, exclusive_gpu, local_gpus, lock_folder, visible_gpus

SCRIPTS = Path(__file__).parents[2] / "scripts"
FIRST = "GPU-11111111-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
SECOND = "GPU-22222222-bbbb-bbbb-bbbb-bbbbbbbbbbbb"

# Takes a GPU, writes when it had it, and keeps it until it is told otherwise.
HOLDER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from t2i.job.device import exclusive_gpu
locks, seconds, gpus = Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
with exclusive_gpu(gpus, locks, poll_seconds=0.01) as gpu:
    start = time.monotonic()
    print(gpu, flush=True)
    time.sleep(seconds)
    print(start, time.monotonic(), flush=True)
"""


def holder(locks, seconds, *gpus):
    """A process that holds one of the GPUs for some seconds."""
    command = [sys.executable, "-c", HOLDER, str(SCRIPTS), str(locks), str(seconds), *gpus]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def held(process):
    """GPU, start and end of a holder that has run to its end."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    gpu, times = output.splitlines()
    start, end = map(float, times.split())
    return gpu, start, end


def test_jobs_wait_for_one_gpu_and_never_overlap(tmp_path):
    spans = sorted(held(p)[1:] for p in [holder(tmp_path, 0.2, FIRST) for _ in range(3)])
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_two_jobs_share_two_gpus(tmp_path):
    first = holder(tmp_path, 30, FIRST, SECOND)
    try:
        assert first.stdout.readline().strip() == FIRST
        assert held(holder(tmp_path, 0, FIRST, SECOND))[0] == SECOND
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate(timeout=60)


def test_jobs_of_two_workflows_use_four_gpus_one_each(tmp_path):
    """Sixteen jobs at once, as two runs with eight cores start them."""
    gpus = [f"GPU-{number}" for number in range(4)]
    jobs = [holder(tmp_path, 0.3, *gpus) for _ in range(16)]
    spans = sorted(held(job) for job in jobs)
    assert {gpu for gpu, _, _ in spans} == set(gpus)
    for (gpu, _, end), (other, start, _) in pairwise(spans):
        assert gpu != other or end <= start


def test_killed_job_frees_its_gpu(tmp_path):
    first = holder(tmp_path, 60, FIRST)
    assert first.stdout.readline().strip() == FIRST
    second = holder(tmp_path, 0, FIRST)
    time.sleep(0.5)
    assert second.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    assert held(second)[0] == FIRST


def test_failed_block_frees_its_gpu(tmp_path):
    for error in (RuntimeError, BlockingIOError):
        with pytest.raises(error), exclusive_gpu([FIRST], tmp_path) as gpu:
            assert gpu == FIRST
            raise error
    with exclusive_gpu([FIRST], tmp_path) as gpu:
        assert gpu == FIRST


def test_a_part_of_a_gpu_may_have_slashes_in_its_name(tmp_path):
    name = "MIG-GPU-11111111-aaaa/1/0"
    with exclusive_gpu([name], tmp_path) as gpu:
        assert gpu == name
    assert [path.parent for path in tmp_path.rglob("*.lock")] == [tmp_path]


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Puts a stand-in for nvidia-smi first on PATH; gives it its words."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def answer(text, status=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {status}\n")
        program.chmod(0o755)

    answer(f"0, {FIRST}\n1, {SECOND}")
    return answer


@pytest.mark.parametrize(
    "assigned, gpus",
    [
        (None, [FIRST, SECOND]),
        ("0", [FIRST]),
        ("1", [SECOND]),
        ("1,0", [SECOND, FIRST]),
        (" 1 , 0 ", [SECOND, FIRST]),
        (SECOND, [SECOND]),
        (f"{SECOND},{FIRST}", [SECOND, FIRST]),
        ("GPU-22222222", [SECOND]),
        ("MIG-33333333-cccc", ["MIG-33333333-cccc"]),
    ],
)
def test_assigned_gpus_are_honoured(driver, monkeypatch, assigned, gpus):
    if assigned is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", assigned)
    assert visible_gpus() == gpus


@pytest.mark.parametrize(
    "assigned, number", [("0", 1), ("1,0", 2), (f"{SECOND}, {FIRST},", 2), ("", 1)]
)
def test_assigned_gpus_are_counted_without_the_driver(monkeypatch, assigned, number):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", assigned)
    monkeypatch.setenv("PATH", "")
    assert local_gpus() == number


def test_slurm_with_cgroups_counts_from_zero_on_every_job(driver, monkeypatch):
    # The second job sees the second GPU alone, and Slurm calls it 0.
    driver(f"0, {SECOND}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert visible_gpus() == [SECOND]


@pytest.mark.parametrize("assigned", ["2", "-1", "0,7", "GPU-33333333", "GPU-", "cuda:0"])
def test_gpu_that_the_host_does_not_have_is_named(driver, monkeypatch, assigned):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", assigned)
    with pytest.raises(DeviceError) as caught:
        visible_gpus()
    assert assigned.rpartition(",")[2] in str(caught.value)
    assert f"0 ({FIRST}), 1 ({SECOND})" in str(caught.value)


@pytest.mark.parametrize("assigned", ["", ",", " "])
def test_no_assigned_gpu_is_an_error(driver, monkeypatch, assigned):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", assigned)
    with pytest.raises(DeviceError, match="no GPU is visible"):
        visible_gpus()


@pytest.mark.parametrize("text", ["", "No devices were found"])
def test_driver_without_gpus_is_an_error(driver, text):
    driver(text)
    with pytest.raises(DeviceError, match="no GPU is visible"):
        visible_gpus()


def test_driver_that_fails_is_an_error_with_advice(driver):
    driver("Failed to initialize NVML: Driver/library version mismatch", 18)
    with pytest.raises(DeviceError, match="exit status 18.*set device: cpu"):
        visible_gpus()


def test_host_without_a_driver_is_an_error_with_advice(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="nvidia-smi.*with an NVIDIA driver.*device: cpu"):
        visible_gpus()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder in which the lock folder lies."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    return tmp_path


def test_lock_folder_is_made_once_and_for_its_owner_alone(temporary):
    folder = lock_folder()
    assert folder.parent == temporary
    assert folder.stat().st_mode & 0o777 == 0o700
    assert lock_folder() == folder


def test_lock_folder_of_somebody_else_is_refused(temporary, monkeypatch):
    somebody = os.getuid() + 1  # whose folder it should be, but it belongs to this user
    monkeypatch.setattr("os.getuid", lambda: somebody)
    Path(temporary, f"t2i-gpu-locks-{somebody}").mkdir(mode=0o700)
    with pytest.raises(DeviceError, match="set TMPDIR to a folder of your own"):
        lock_folder()


@pytest.mark.parametrize("kind", ["link", "dangling link", "file", "writable for all"])
def test_lock_folder_that_others_could_have_put_there_is_refused(temporary, kind):
    path = Path(temporary, f"t2i-gpu-locks-{os.getuid()}")
    if kind == "link":
        (temporary / "elsewhere").mkdir()
        path.symlink_to(temporary / "elsewhere")
    elif kind == "dangling link":
        path.symlink_to(temporary / "nowhere")
    elif kind == "file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o777)
    with pytest.raises(DeviceError, match="only you can write to"):
        lock_folder()
    assert not (temporary / "nowhere").exists()


def test_threads_are_the_variants_not_the_schedulers(monkeypatch):
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "64")
    limit_threads(3)
    assert {os.environ[name] for name in THREAD_VARIABLES} == {"3"}


def test_processor_has_a_name():
    assert device.cpu_name().strip()
