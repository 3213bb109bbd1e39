"""Broken set-ups: each fault is named with its mend, and nothing is changed."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from t2i.base.yaml import read_yaml
from t2i.config import doctor, forecast
from t2i.config.doctor import (
    Finding,
    configuration,
    disk,
    findings,
    in_words,
    inputs,
    network,
    packages,
    planned_jobs,
    python,
    report,
)
from t2i.fetch.table import Source

ROOT = Path(__file__).parents[2]
GPU = "NVIDIA H200, 580.65, 143771, 512"


@pytest.fixture
def no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dry run, which has a test of its own, is left out."""
    monkeypatch.setattr(doctor, "dry_run", lambda *_: "")


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(read_yaml(ROOT / "config/config.yaml") | changes))
    return path


def faults(found: list[Finding]) -> dict[str, str]:
    """What was found of each fault."""
    return {finding.name: finding.found for finding in found if finding.mend is not None}


def test_the_embedded_run_can_begin(no_plan: None) -> None:
    found = list(findings(ROOT, ROOT / "config/config.yaml", {}))
    assert faults(found) == {}
    assert report(found).splitlines()[-1] == "Go."


def test_pythons_without_wheels() -> None:
    assert python((3, 11)).mend is python((3, 13)).mend is None
    for version in ((3, 10), (3, 14)):
        assert python(version).found.startswith(".".join(map(str, version)))
        assert "from 3.11 to 3.13" in str(python(version).mend)


def test_packages_that_are_not_the_locks(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("pyyaml==0.1 \\\n    --hash=sha256:00\nno-such-package==1.0\n# torch==1\n")
    finding = packages(lock)
    assert finding.found.startswith("pyyaml is ")
    assert finding.found.endswith(", not 0.1; no-such-package is missing")
    assert "make environment" in str(finding.mend)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        (b"\xff\xfe", "utf-8"),
        (b"a: [", "line 1"),
        (b"- a\n", "expected keys with values"),
        (b"samples: 3\n", "dataset: missing"),
    ],
)
def test_configurations_that_cannot_be_read(tmp_path, no_plan, content, said) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    found = faults(list(findings(ROOT, path, {})))
    assert found.keys() == {"configuration"}
    assert said in found["configuration"]


def test_all_mistakes_of_a_configuration_at_once(tmp_path: Path, no_plan: None) -> None:
    path = written(tmp_path, samples=-3, device="gpu")
    told = faults(list(findings(ROOT, path, {})))["configuration"]
    assert "samples: got -3" in told
    assert "device: got 'gpu'" in told
    given = faults(list(findings(ROOT, written(tmp_path), {"samples": 0})))
    assert "samples: got 0" in given["configuration"]


def test_a_machine_without_a_driver(tmp_path, no_plan, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = faults(list(findings(ROOT, written(tmp_path, device="cuda"), {})))
    assert found.keys() == {"GPU"}
    assert "nvidia-smi" in found["GPU"]


def test_a_torch_for_cpus_beside_a_gpu(tmp_path, no_plan, monkeypatch) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\necho '{GPU}'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    found = list(findings(ROOT, written(tmp_path, device="cuda"), {}))
    assert faults(found).keys() == {"torch"}
    assert "build for CPUs" in faults(found)["torch"]
    told = Finding("GPU 0", "NVIDIA H200, driver 580.65, 512 of 143771 MiB in use")
    assert told in found
    monkeypatch.setattr(torch.version, "cuda", "14.0")
    assert "cannot use a GPU here" in faults(list(doctor.gpus()))["torch"]


def source(name: str, size: int | None = 4, token: str | None = None, address: str = "") -> Source:
    return Source(name, address, "a licence", size, "sha256", "00" * 32, token)


def test_damaged_and_missing_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").write_text("1234")
    (tmp_path / "damaged").write_text("12345")
    monkeypatch.delenv("A_TOKEN", raising=False)
    there = (tmp_path / "there").as_uri()
    needed = [source("whole"), source("damaged"), source("missing", 7000, "A_TOKEN", there)]
    config = {"mirror": None, "offline": True}
    found = list(inputs(needed, tmp_path, config))
    assert Finding("inputs", "2 of 3 are here; 7.0 kB have to be fetched") in found
    assert Finding("licence", "a licence") in found
    told = faults(found)
    assert told.keys() == {"input", "token", "network"}
    assert "damaged has 5 bytes, not 4" in told["input"]
    assert told["token"].startswith("A_TOKEN is not set")
    assert "offline, and 1 inputs are not here: missing" in told["network"]
    (tmp_path / "there").write_text("x" * 7000)
    monkeypatch.setenv("A_TOKEN", "secret")
    found = list(inputs(needed, tmp_path, config))
    assert faults(found).keys() == {"input"}
    assert "secret" not in report(found)


def test_hosts_that_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        assert [finding.mend for finding in network({place})] == [None]
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@{place}")
        (finding,) = network({"unreachable.invalid"})
        assert finding == Finding("network", "127.0.0.1 answers")
    (finding,) = network({"unreachable.invalid"})  # by the proxy, which has gone
    assert "127.0.0.1 cannot be reached" in finding.found
    assert "secret" not in finding.found
    monkeypatch.delenv("HTTPS_PROXY")
    (finding,) = network({"unreachable.invalid:1234"})
    assert finding.found.startswith("unreachable.invalid cannot be reached")
    assert "mirror" in str(finding.mend)


def test_a_disk_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    said = """rule generate_shard:
    output: results/mine/fp16/shards/00000-00250.tar, results/mine/fp16/shards/00000-00250.json
    wildcards: run=mine, variant=fp16, shard=00000-00250
    resources: tmpdir=/tmp

localrule all:
    input: results/mine/report.html
"""
    config, sources = configuration(ROOT, ROOT / "config/mlperf.yaml", {})
    jobs = planned_jobs(said, sources)
    assert [(job.rule, job.wildcards["shard"]) for job in jobs] == [
        ("generate_shard", "00000-00250")
    ]
    assert in_words(jobs) == "1 jobs:\ngenerate_shard 1" and in_words([]) == "0 jobs"
    monkeypatch.setattr(forecast, "free_bytes", lambda _: 100_000_000)
    finding = disk(jobs, config, sources)
    assert "images 787.9 MB" in finding.found and "100.0 MB free" in finding.found
    assert "Make room" in str(finding.mend)
    monkeypatch.setattr(forecast, "free_bytes", lambda _: 10**12)
    assert disk(jobs, config, sources).mend is None


def test_what_a_dry_run_refuses_is_passed_on(tmp_path: Path) -> None:
    """Told by the tool itself, in a folder of its own, with the exit status of no go."""

    def told(folder: Path) -> subprocess.CompletedProcess[str]:
        folder.mkdir()
        for name in ("config", "models"):
            (folder / name).symlink_to(ROOT / name)
        command = [sys.executable, str(ROOT / "tools/doctor.py"), str(path), "samples=4"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)

    path = written(tmp_path)
    broken = told(tmp_path / "a{b}")
    assert broken.returncode == 1
    assert "! plan" in broken.stdout
    assert "has braces" in broken.stdout
    assert broken.stdout.splitlines()[-1] == "No go: 1 fault."
    sound = told(tmp_path / "a")
    assert sound.returncode == 0, sound.stdout
    assert sound.stdout.splitlines()[-1] == "Go."
    assert re.search(r"^  plan +\d\d jobs:$", sound.stdout, re.M)
    assert "run_loadgen 4" in sound.stdout
    assert re.search(r"^  disk +at most .* MB more \(.*images .* free$", sound.stdout, re.M)
    assert not (tmp_path / "a/results").exists()
