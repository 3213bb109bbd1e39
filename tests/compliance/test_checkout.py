"""A checkout is the pinned commit or says that it is not, and scripts end in time."""

import subprocess
import sys
import time

import pytest

from fake_checkout import write_checkout
from t2i.compliance import checkout
from t2i.compliance.checkout import CheckoutError, fetch_checkout, open_checkout, run_command


def git(folder, *words):
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def repository(tmp_path):
    """A repository with two commits of a checkout and files that the scripts do not need."""
    folder = write_checkout(tmp_path / "remote repository")
    (folder / "vision").mkdir()
    (folder / "vision/large.bin").write_bytes(b"0" * 1000)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    first = git(folder, "rev-parse", "HEAD")
    (folder / "answer.txt").write_text("changed")
    git(folder, "commit", "--quiet", "--all", "--message", "second")
    return folder, first


def test_an_open_checkout_knows_commit_and_changes(repository, monkeypatch):
    folder, _ = repository
    head = git(folder, "rev-parse", "HEAD")
    found = open_checkout(folder)
    assert (found.path, found.commit, found.modified) == (folder.resolve(), head, False)
    assert found.remark == f"the checkout is at {head}, {checkout.PINNED_COMMIT} was expected"
    monkeypatch.setattr(checkout, "PINNED_COMMIT", head)
    assert open_checkout(folder).remark == ""
    (folder / checkout.SCRIPTS[0]).write_text("changed")
    assert open_checkout(folder).remark == "tracked files of the checkout were modified"


def test_a_folder_without_git_has_no_commit(tmp_path):
    found = open_checkout(write_checkout(tmp_path))
    assert (found.commit, found.modified) == (None, None)
    assert "no commit" in found.remark


@pytest.mark.parametrize("name", checkout.SCRIPTS)
def test_a_missing_script_is_named(tmp_path, name):
    write_checkout(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckoutError, match=name) as error:
        open_checkout(tmp_path)
    assert checkout.PINNED_COMMIT in str(error.value)
    assert "inference_checkout" in str(error.value)


def test_exactly_the_asked_commit_is_fetched(repository, tmp_path):
    folder, first = repository
    target = tmp_path / "a checkout"
    target.mkdir()  # as Snakemake leaves it
    found = fetch_checkout(target, str(folder), first)
    assert (found.commit, found.modified) == (first, False)
    assert not (target / "vision").exists()
    assert not (target / ".git/hooks").exists()
    assert git(target, "rev-list", "--count", "HEAD") == "1"
    assert names(tmp_path) == ["a checkout", "remote repository"]
    assert fetch_checkout(target, "/nowhere", first) == found
    with pytest.raises(CheckoutError, match=f"is at commit {first}.*move the folder away"):
        fetch_checkout(target, str(folder), "0" * 40)


@pytest.mark.parametrize(
    "commit, message",
    [("0" * 40, "git fetch .* failed"), ("HEAD", "asked for commit HEAD, got [0-9a-f]{40}")],
)
def test_nothing_is_left_of_another_commit(repository, tmp_path, commit, message):
    folder, _ = repository
    with pytest.raises(CheckoutError, match=message):
        fetch_checkout(tmp_path / "checkout", str(folder), commit)
    assert names(tmp_path) == ["remote repository"]


def test_a_commit_without_the_scripts_is_refused(repository, tmp_path):
    folder, _ = repository
    git(folder, "rm", "--quiet", "compliance/TEST04/run_verification.py")
    git(folder, "commit", "--quiet", "--message", "third")
    with pytest.raises(CheckoutError, match="compliance/TEST04/run_verification.py"):
        fetch_checkout(tmp_path / "checkout", str(folder), git(folder, "rev-parse", "HEAD"))
    assert not (tmp_path / "checkout").exists()


def test_no_hook_of_the_user_runs(repository, tmp_path, monkeypatch):
    folder, first = repository
    template = tmp_path / "template/hooks"
    template.mkdir(parents=True)
    hook = template / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
    hook.chmod(0o755)
    settings = tmp_path / "gitconfig"
    settings.write_text(
        f"[init]\ntemplateDir = {template.parent}\n[core]\nhooksPath = {template}\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    fetch_checkout(tmp_path / "checkout", str(folder), first)
    assert not (tmp_path / "ran").exists()


def test_missing_git_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CheckoutError, match="git is not installed"):
        fetch_checkout(tmp_path / "checkout", "x")


def test_a_command_is_stopped_with_its_children(tmp_path):
    children = f"import subprocess, sys; print('begun', flush=True); subprocess.run({SLEEP!r})"
    began = time.monotonic()
    finished = run_command([sys.executable, "-c", children], tmp_path, 1.0)
    assert time.monotonic() - began < 20
    assert (finished.exit, finished.text) == (None, "begun\n")


SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_output_of_both_kinds_and_status_come_back(tmp_path):
    words = "import sys; print('a', flush=True); print('b', file=sys.stderr); sys.exit(3)"
    finished = run_command([sys.executable, "-c", words], tmp_path, 60)
    assert (finished.exit, finished.text) == (3, "a\nb\n")
