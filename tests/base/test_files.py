"""Files exist whole or not at all, whatever happens while they are written."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from t2i.base.files import (
    publish,
    publish_folder,
    read_json,
    sha256_bytes,
    sha256_file,
    sha256_json,
    write_json,
    write_text,
)

SCRIPTS = Path(__file__).parents[2] / "scripts"
# A child that dies without any clean-up at the named call; everything it wrote is flushed.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {scripts!r})
from t2i.base import files

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

{fault}
path = Path(sys.argv[1])
{write}
"""
WRITE_FILE = "with files.publish(path) as part:\n    part.write_text('new content')"
WRITE_FOLDER = (
    "with files.publish_folder(path) as part:\n"
    "    (part / 'a').write_text('new a')\n"
    "    (part / 'b').write_text('new b')"
)


def kill_while_writing(path: Path, fault: str, write: str) -> None:
    """Run a child that is killed at a fault while it writes `path`."""
    program = KILLED.format(scripts=str(SCRIPTS), fault=fault, write=write)
    child = subprocess.run([sys.executable, "-c", program, str(path)], timeout=60, check=False)
    assert child.returncode == -signal.SIGKILL


def test_published_file_has_its_name_and_content_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "new folder" / "result.txt"
    with publish(path) as part:
        part.write_text("content")
        assert part.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "content"
    assert list(path.parent.iterdir()) == [path]


def test_a_planted_link_leads_nowhere(tmp_path):
    """By the name that the temporary file will have."""
    other = tmp_path / "other"
    other.write_text("other")
    (tmp_path / f".a.txt.{os.getpid()}.part").symlink_to(other)
    write_text(tmp_path / "a.txt", "new")
    assert (other.read_text(), (tmp_path / "a.txt").read_text()) == ("other", "new")
    assert not (tmp_path / "a.txt").is_symlink()


def test_exception_leaves_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"), publish(path) as part:
        part.write_text("half of the n")
        raise RuntimeError("in the middle")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), publish(path):
        pass
    assert path.read_text() == "old"


@pytest.mark.parametrize("call", ["os.fsync", "Path.replace"])
def test_file_is_whole_after_a_kill_between_write_and_rename(tmp_path, call):
    path = tmp_path / "result.txt"
    path.write_text("old")
    kill_while_writing(path, f"{call} = die", WRITE_FILE)
    assert path.read_text() == "old"
    write_text(path, "made by the next run")
    assert path.read_text() == "made by the next run"


def test_file_is_there_after_a_kill_right_after_the_rename(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    fault = "keep = files._sync\nfiles._sync = lambda p: die() if p.is_dir() else keep(p)"
    kill_while_writing(path, fault, WRITE_FILE)
    assert path.read_text() == "new content"


def test_data_reaches_the_disk_before_the_name_does(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr("os.fsync", lambda fd: (calls.append("sync"), sync(fd))[1])
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (calls.append("rename"), replace(self, to))[1]
    )
    write_text(tmp_path / "result.txt", "content")
    assert calls == ["sync", "rename", "sync"]


def test_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "stale").write_text("of an earlier run")
    with publish_folder(path) as part:
        (part / "deep").mkdir()
        (part / "deep" / "a").write_text("a")
        assert (path / "stale").exists()
    assert [p.relative_to(path).as_posix() for p in sorted(path.rglob("*"))] == ["deep", "deep/a"]
    assert list(tmp_path.iterdir()) == [path]


def test_exception_leaves_old_folder_and_no_temporary_one(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(RuntimeError), publish_folder(path) as part:
        (part / "new").write_text("new")
        raise RuntimeError
    assert [p.name for p in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("count", [1, 2])
def test_folder_is_whole_or_absent_after_a_kill_at_either_rename(tmp_path, count):
    path = tmp_path / "folder"
    path.mkdir()
    for name in ("a", "b", "c"):
        (path / name).write_text(f"old {name}")
    fault = (
        "keep = Path.replace\nleft = [1] * " + str(count - 1) + "\n"
        "Path.replace = lambda self, to: keep(self, to) if left and left.pop() else die()"
    )
    kill_while_writing(path, fault, WRITE_FOLDER)
    if count == 1:
        assert sorted(p.name for p in path.iterdir()) == ["a", "b", "c"]
    else:
        assert not path.exists()
    with publish_folder(path) as part:
        (part / "a").write_text("made by the next run")
    assert [p.read_text() for p in path.iterdir()] == ["made by the next run"]


def test_folder_is_never_deleted_under_its_name(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "a").write_text("old")
    fault = "files.shutil.rmtree = lambda path, **_: die() if path.name == 'folder' else None"
    program = KILLED.format(scripts=str(SCRIPTS), fault=fault, write=WRITE_FOLDER)
    child = subprocess.run([sys.executable, "-c", program, str(path)], timeout=60, check=False)
    assert child.returncode == 0
    assert sorted(p.name for p in path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [1.0, float("-inf")]}])
def test_numbers_that_json_lacks_are_not_written(tmp_path, value):
    path = tmp_path / "metrics.json"
    write_json(path, {"fid": 23.5})
    with pytest.raises(ValueError):
        write_json(path, value)
    assert read_json(path) == {"fid": 23.5}
    assert list(tmp_path.iterdir()) == [path]


def test_json_keeps_every_digit_and_every_letter(tmp_path):
    value = {
        "fid": 0.1 + 0.2,
        "caption": 'Ein Café, "zitiert"\t猫',
        "none": None,
        "list": [1, True],
    }
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert "Café" in (tmp_path / "x.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"a": 1}}',
        b"<html>",
        b'{"fid": NaN}',
        b"[Infinity]",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b"1" * 5000,
    ],
    ids=["empty", "cut", "trailing", "html", "nan", "infinity", "not utf-8", "deep", "long"],
)
def test_unreadable_json_is_named(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
    assert "delete it and run again" in str(caught.value)


def test_digests_are_of_content_alone(tmp_path):
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_bytes(b"") == empty
    (tmp_path / "x").write_bytes(b"abc" * 1_000_000)
    assert sha256_file(tmp_path / "x") == sha256_bytes(b"abc" * 1_000_000)
    assert sha256_json({"b": 1, "a": [1, 2]}) == sha256_json({"a": [1, 2], "b": 1})
    assert sha256_json([1, 2]) != sha256_json([2, 1])
    assert sha256_json({"a": 1}) == sha256_bytes(json.dumps({"a": 1}).replace(" ", "").encode())
