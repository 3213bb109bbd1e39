"""A folder that serves as a mirror, and runs that may not use a network."""

import fcntl
import io
import os
import subprocess
import time
from pathlib import Path

import pytest

from t2i.fetch.files import how_to_get, missing_offline, part_path
from t2i.fetch.mirror import LIST, download_wheels, write_mirror
from t2i.fetch.progress import LOCK, FetchProgress, bytes_here
from t2i.fetch.table import Source

SHA256 = "0123456789abcdef" * 4


def source(name, size=10, address="https://a.example/{}", digest=SHA256):
    """An input of that name."""
    return Source(name, address.format(name), "CC0", size, "sha256", digest)


def check(folder):
    """What coreutils say of a folder's list."""
    return subprocess.run(
        ["sha256sum", "--check", "--strict", LIST], cwd=folder, capture_output=True, text=True
    )


def test_mirror_has_the_same_paths_and_a_list_that_sha256sum_accepts(tmp_path):
    names = ["a/x.bin", "a/deep/y.txt", "b/name with blanks.json"]
    for number, name in enumerate(names):
        (tmp_path / "resources" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "resources" / name).write_bytes(bytes(1000 + number))
    mirror = tmp_path / "mirror"
    write_mirror(tmp_path / "resources", names, mirror)
    done = check(mirror)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{name}: OK" for name in sorted(names)]
    assert (mirror / names[0]).samefile(tmp_path / "resources" / names[0])

    (mirror / names[1]).unlink()  # a link: damage must not reach resources/
    (mirror / names[1]).write_bytes(b"damaged")
    assert check(mirror).returncode == 1
    write_mirror(tmp_path / "resources", names, mirror)  # a second time, over the first
    assert check(mirror).returncode == 0


def test_mirror_on_another_file_system_holds_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("cross-device link")

    (tmp_path / "resources").mkdir()
    (tmp_path / "resources/x").write_bytes(b"x")
    monkeypatch.setattr(os, "link", refuse)
    write_mirror(tmp_path / "resources", ["x"], tmp_path / "mirror")
    assert check(tmp_path / "mirror").returncode == 0
    assert not (tmp_path / "mirror/x").samefile(tmp_path / "resources/x")


def test_wheels_are_those_of_the_lock_files(tmp_path, monkeypatch):
    """A package made here stands in for an index."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "setup.py").write_text(
        "from setuptools import setup\nsetup(name='tiny-package', version='1.2', py_modules=[])\n"
    )
    (tmp_path / "a.lock").write_text(str(package) + "\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # pip's way to say: without isolation
    folder = tmp_path / "wheels"
    download_wheels([tmp_path / "a.lock"], folder)
    assert [path.name for path in folder.glob("*.whl")] == ["tiny_package-1.2-py3-none-any.whl"]
    assert check(folder).returncode == 0


def test_what_is_missing_offline_is_exactly_what_no_folder_has(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inputs = {name: source(name) for name in ("a/here", "a/mirrored", "a/missing", "b/missing")}
    inputs["b/shipped"] = source("b/shipped", address="file:shipped")
    for path in ("resources/a/here", "mirror/a/mirrored", "shipped"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    wanted = inputs.values()
    for mirror, also in (
        ("mirror", []),
        (None, ["a/mirrored"]),
        ("https://m.example", ["a/mirrored"]),
    ):
        missing = missing_offline(wanted, Path("resources"), mirror)
        assert [entry.name for entry in missing] == [*also, "a/missing", "b/missing"]


def test_commands_for_missing_inputs_are_ones_for_a_shell(tmp_path):
    """The commands bring the files where a mirror has them; a local server stands in."""
    original = tmp_path / "published file"
    original.write_bytes(b"content")
    wanted = source("a/it's here", address=original.as_uri())
    text = how_to_get([wanted], "snakemake mirror")
    assert "1 of the inputs" in text
    assert wanted.name in text
    assert SHA256 in text
    assert "  snakemake mirror" in text.splitlines()
    (command,) = [line for line in text.splitlines() if line.strip().startswith("curl ")]
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "mirror" / wanted.name).read_bytes() == b"content"


def test_progress_counts_parts_and_tells_the_time_left(tmp_path):
    inputs = [source("a/one", 1000), source("a/two", 3000), source("b/three", 4000)]
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one").write_bytes(bytes(1000))
    part_path(tmp_path / "a/two", inputs[1]).write_bytes(bytes(500))
    assert bytes_here(inputs, tmp_path) == (1, 1500)
    progress = FetchProgress(inputs, tmp_path, io.StringIO(), 5.0)
    assert progress.line(100.0) == "fetch: 1/3 files, 1.5 kB of 8.0 kB, 0 bytes/s"
    part_path(tmp_path / "a/two", inputs[1]).write_bytes(bytes(2500))
    assert progress.line(110.0) == "fetch: 1/3 files, 3.5 kB of 8.0 kB, 200 bytes/s, 0:22 left"


def test_one_job_alone_speaks_and_another_takes_over(tmp_path):
    first, second = io.StringIO(), io.StringIO()

    def lines(terminal):
        return len(terminal.getvalue().splitlines())

    def wait_for(condition):
        for _ in range(500):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError("not within five seconds")

    with FetchProgress([source("a")], tmp_path, second, 0.01) as after:
        wait_for(lambda: lines(second) > 2)
        with (tmp_path / LOCK).open("w") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with FetchProgress([source("a")], tmp_path, first, 0.01):
            count = lines(second)
            wait_for(lambda: lines(second) > count + 5)
            assert lines(first) == 0
            after.__exit__()
            wait_for(lambda: lines(first) > 0)
