"""The profile for Slurm on a real one: two nodes, failing and cancelled jobs, lost nodes, kills."""

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slurm_cluster import Cluster, missing, slurm_cluster
from workflow_run import SHARDS, VARIANTS, Workplace, copy_project, copy_run

pytestmark = pytest.mark.slow

# The site's part of the profile: a cluster that answers at once, without accounting.
SITE = (
    *("--profile", "slurm", "--jobs", "4"),
    *("--slurm-init-seconds-before-status-checks", "1"),
    *("--seconds-between-status-checks", "1", "--latency-wait", "10"),
)
WITHOUT_ACCOUNTING = ("--slurm-status-command", "squeue")
FIRST, SECOND = (f"results/tiny/faulty/shards/{shard}.tar" for shard in SHARDS)
SUBMITTED = re.compile(r"Job \d+ has been submitted with SLURM jobid (\d+)")


@pytest.fixture(scope="module")
def cluster(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with two cores and two GPUs that are not there; its parameter: with accounting."""
    accounting = getattr(request, "param", False)
    reason = missing(accounting)
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    with slurm_cluster(folder, seconds=1500, accounting=accounting) as running:
        yield running


def conf(cluster: Cluster) -> str:
    return cluster.environment["SLURM_CONF"]


@pytest.fixture
def place(patched: Workplace, tmp_path: Path) -> Workplace:
    """A finished run with one more variant, of which only the engine exists."""
    return Workplace(copy_run(patched.folder, tmp_path / "project"), patched.config)


def wait_for(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


@contextmanager
def started(
    place: Workplace, cluster: Cluster, *targets: str, status: tuple[str, ...] = WITHOUT_ACCOUNTING
) -> Iterator[subprocess.Popen]:
    """Snakemake in the background; it has ended with the block."""
    command = place.command(*targets, *SITE, *status, cores=None)
    run = place.start(command, place.folder / "said", SLURM_CONF=conf(cluster))
    try:
        yield run
    finally:
        if run.poll() is None:
            run.kill()
        run.wait()


def check_ended_well(place: Workplace, run: subprocess.Popen) -> str:
    """Wait for a run to end; what it said."""
    run.wait(300)
    said = (place.folder / "said").read_text()
    assert run.returncode == 0, said[-20_000:]
    return said


def running(cluster: Cluster, text: str) -> dict[str, str]:
    """Node by Slurm's id of each running job whose comment holds a text, which names its rule."""
    found = {}
    for line in cluster.call("squeue", "-h", "-t", "R", "-o", "%A %N %k").splitlines():
        job, node, comment = line.split(" ", 2)
        if text in comment:
            found[job] = node
    return found


def told(place: Workplace) -> str:
    """What `make status` says of a run, from another process than its own."""
    command = [sys.executable, "tools/print_status.py"]
    return subprocess.run(
        command, cwd=place.folder, check=True, capture_output=True, text=True
    ).stdout


def finished_shards(place: Workplace) -> dict[Path, int]:
    """Inode of each shard that has its manifest."""
    manifests = place.folder.glob("results/tiny/*/shards/*.json")
    return {path.with_suffix(".tar"): path.with_suffix(".tar").stat().st_ino for path in manifests}


def test_a_run_that_loses_a_job_a_node_and_snakemake_equals_a_local_one(
    finished, cluster, tmp_path
) -> None:
    place = Workplace(copy_project(tmp_path / "project"))
    gpu = ("--set-resources", "generate_shard:gpu=1")
    with started(place, cluster, *gpu) as run:
        wait_for(lambda: running(cluster, "generate_shard"))
        cancelled = next(iter(running(cluster, "generate_shard")))
        cluster.call("scancel", cancelled)
        wait_for(lambda: running(cluster, "generate_shard").keys() - {cancelled})
        node = next(iter(running(cluster, "generate_shard").values()))
        cluster.kill_node(node)
        cluster.start_node(node)
        wait_for(lambda: finished_shards(place))
        time.sleep(3)  # Snakemake asks each second
        assert told(place).startswith("Running for ")
        run.send_signal(signal.SIGKILL)
    assert told(place).startswith("Stopped without an end ")
    before = finished_shards(place)
    with started(place, cluster, *gpu) as run:
        said = check_ended_well(place, run)
    assert "removed the lock of a run that was killed" in said
    assert before.items() <= finished_shards(place).items()
    for variant in VARIANTS:
        assert place.images(variant) == finished.images(variant)
        assert place.scores(variant) == finished.scores(variant)
    jobs = [
        job
        for job in cluster.call("scontrol", "show", "job", "-o").splitlines()
        if str(place.folder) in job
    ]
    states = Counter(re.search(r" JobState=(\S+)", job)[1] for job in jobs)
    ended = re.search(r"cancelled (\d+) jobs of a killed run", said)  # which would start later
    assert states["CANCELLED"] == 1 + int(ended[1] if ended else 0)
    assert states["COMPLETED"] >= 10 and not states["PENDING"] and not states["RUNNING"]
    nodes = {re.search(r" NodeList=(\S+)", job)[1] for job in jobs if "=COMPLETED" in job}
    assert nodes == set(cluster.nodes)
    shards = [job for job in jobs if "generate_shard" in job]
    assert all(re.search(r"Tres\w*=\S*gpu", job) for job in shards) and len(shards) >= 5


def test_only_the_job_that_failed_is_submitted_again(place, cluster) -> None:
    (place.folder / f"raise-{SHARDS[1]}").write_text("once")
    with started(place, cluster, FIRST, SECOND) as run:
        said = check_ended_well(place, run)
    assert len(SUBMITTED.findall(said)) == 3
    assert place.images("faulty") == place.images("fp32")


@pytest.mark.parametrize("cluster", [True], indirect=True)
def test_accounting_tells_which_job_failed(place, cluster) -> None:
    (place.folder / f"raise-{SHARDS[1]}").write_text("once")
    with started(place, cluster, FIRST, SECOND, status=()) as run:
        said = check_ended_well(place, run)
    jobs = SUBMITTED.findall(said)
    states = dict(
        line.split("|")
        for line in cluster.call("sacct", "-X", "-n", "-P", "-o", "JobIdRaw,State").splitlines()
    )
    assert sorted(states[job] for job in jobs) == ["COMPLETED", "COMPLETED", "FAILED"]
    assert place.images("faulty") == place.images("fp32")
