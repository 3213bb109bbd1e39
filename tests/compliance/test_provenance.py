"""What a run was made of is recorded as it is, or as unknown."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from t2i.compliance.provenance import changed_defaults, environment_state, git_state, input_record
from t2i.fetch.table import Source
from t2i.job.software import software_versions


def git(folder, *words):
    """Run git without the user's own settings."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    names = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(folder), *names, *words]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return run.stdout.strip()


@pytest.fixture
def working_copy(tmp_path):
    """A working copy with one commit."""
    folder = tmp_path / "copy"
    folder.mkdir()
    git(folder, "init")
    (folder / "Snakefile").write_text("rule all:\n")
    git(folder, "add", "Snakefile")
    git(folder, "commit", "-m", "first")
    return folder


def test_commit_of_a_clean_working_copy(working_copy):
    commit = git(working_copy, "rev-parse", "HEAD")
    assert git_state(working_copy) == {"commit": commit, "dirty": False}
    (working_copy / "results").mkdir()
    (working_copy / "results" / "new").touch()
    assert git_state(working_copy)["dirty"] is False  # what runs produce is no change


@pytest.mark.parametrize("staged", [False, True])
def test_changed_file_makes_it_dirty(working_copy, staged):
    (working_copy / "Snakefile").write_text("rule other:\n")
    if staged:
        git(working_copy, "add", "Snakefile")
    assert git_state(working_copy) == {
        "commit": git(working_copy, "rev-parse", "HEAD"),
        "dirty": True,
    }


def test_folder_without_git_has_no_commit(tmp_path):
    assert git_state(tmp_path) == {"commit": None, "dirty": None}
    assert git_state(tmp_path / "missing") == {"commit": None, "dirty": None}


def test_folder_inside_somebodys_working_copy_has_no_commit_of_its_own(working_copy):
    inner = working_copy / "unpacked"
    inner.mkdir()
    assert git_state(inner) == {"commit": None, "dirty": None}


def test_working_copy_before_its_first_commit(tmp_path):
    git(tmp_path, "init")
    assert git_state(tmp_path) == {"commit": None, "dirty": False}


def test_machine_without_git(working_copy, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_state(working_copy) == {"commit": None, "dirty": None}


def test_changed_defaults_are_listed_by_dotted_path():
    defaults = {"samples": 64, "sampler": {"steps": 20, "guidance": 8.0}, "windows": None}
    config = {
        "samples": 64,
        "sampler": {"steps": 4, "guidance": 8.0},
        "variants": {"fp16": {"dtype": "fp16"}},
    }
    assert changed_defaults(config, defaults) == {
        "sampler.steps": [20, 4],
        "variants": [None, {"fp16": {"dtype": "fp16"}}],
    }
    assert changed_defaults(defaults, defaults) == {}
    assert changed_defaults({}, {"a": 1}) == {"a": [1, None]}


@pytest.fixture
def resource(tmp_path, monkeypatch):
    """An input below resources/, relative to the working folder."""
    monkeypatch.chdir(tmp_path)
    path = Path("resources/data/captions.tsv")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"captions")
    return path


SHA256 = hashlib.sha256(b"captions").hexdigest()


def test_input_made_here(resource):
    assert input_record(resource, None) == {
        "name": "data/captions.tsv",
        "path": "resources/data/captions.tsv",
        "size": 8,
        "sha256": SHA256,
        "licence": "Apache-2.0, made by this workflow",
        "source": "made by this workflow",
        "published": None,
        "matches": None,
    }


@pytest.mark.parametrize("algorithm", ["sha256", "git_blob", "md5"])
@pytest.mark.parametrize("matches", [True, False])
def test_published_input_is_compared_with_its_digest(resource, algorithm, matches):
    digest = {
        "sha256": SHA256,
        "git_blob": hashlib.sha1(b"blob 8\0captions", usedforsecurity=False).hexdigest(),
        "md5": hashlib.md5(b"captions", usedforsecurity=False).hexdigest(),
    }[algorithm]
    digest = digest if matches else "0" * len(digest)
    source = Source("data/captions.tsv", "https://a.example/x", "CC0", 8, algorithm, digest)
    record = input_record(resource, source)
    assert record["matches"] is matches
    assert record["published"] == f"{algorithm} {digest}"
    assert (record["licence"], record["source"]) == ("CC0", "https://a.example/x")
    assert record["sha256"] == SHA256


def test_software_is_what_is_installed():
    versions = software_versions()
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["numpy"] == __import__("numpy").__version__
    assert "no-such-package" not in versions


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """A Python installation in a folder called torch-env."""
    folder = tmp_path / "torch-env"
    folder.mkdir()
    monkeypatch.setattr(sys, "prefix", str(folder))
    for name in ("APPTAINER_NAME", "SINGULARITY_NAME", "CONDA_PREFIX", "VIRTUAL_ENV"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_virtual_environment_is_told_from_an_active_conda(prefix, monkeypatch):
    monkeypatch.setenv("CONDA_PREFIX", "/opt/conda")
    assert environment_state() == {"mode": "venv", "name": "torch-env"}


def test_conda_environment_is_known_by_its_own_records(prefix):
    (prefix / "conda-meta").mkdir()
    assert environment_state() == {"mode": "conda", "name": "torch-env"}


def test_python_of_the_system_is_called_so(prefix, monkeypatch):
    monkeypatch.setattr(sys, "base_prefix", str(prefix))
    assert environment_state()["mode"] == "system"


@pytest.mark.parametrize("variable", ["APPTAINER_NAME", "SINGULARITY_NAME"])
def test_container_comes_first(prefix, monkeypatch, variable):
    (prefix / "conda-meta").mkdir()
    monkeypatch.setenv(variable, "torch.sif")
    assert environment_state() == {"mode": "apptainer", "name": "torch.sif"}
