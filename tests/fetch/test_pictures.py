"""Pictures come one by one, whole and of the right size, and only once."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i.base.files import sha256_bytes, sha256_file
from t2i.fetch import pictures as module
from t2i.fetch.pictures import (
    ImageFetchError,
    Origin,
    PictureError,
    address_over_tls,
    check_picture,
    fetch_pictures,
    pack_pictures,
    pictures,
)
from t2i.fetch.transfer import Limits
from t2i.job.disk import DiskFullError
from t2i.prompts.captions import Caption, format_captions
from workflow_run import Workplace, copy_project, table_with

LIMITS = Limits(silence=2.0, attempts=2, pause=0.02)
NOWHERE = Origin("mine/images")


def jpeg(number: int, width: int = 24, height: int = 16, kind: str = "JPEG") -> bytes:
    """A small picture of its own for each number."""
    pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def rows(count: int, url: str = "http://127.0.0.1:9", way: str = "good") -> list[Caption]:
    """Captions whose ids and images are in no order."""
    return [
        Caption(n, 99 - n, "x", 16, 24, f"{n:02d}.jpg", f"{url}/{way}/{n:02d}.jpg")
        for n in (np.random.default_rng(1).permutation(count)).tolist()
    ]


class Handler(BaseHTTPRequestHandler):
    """Sends the picture whose number ends the path, or something else, as the path asks."""

    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self):
        """Answer one request."""
        with self.server.lock:
            self.server.asked[self.path] += 1
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        way, name = self.path.split("/")[1:]
        number = int(name[:2])
        if way == "bad" and number % 4 == 1:
            way = ("missing", "cut", "size", "png", "html", "huge", "empty")[number // 4]
        body = jpeg(number)
        if way == "slow" and number >= 4:
            self.server.stop.wait(20)
        body = {
            "cut": body[:-10],
            "size": jpeg(number, 16, 24),
            "png": jpeg(number, kind="PNG"),
            "html": b"<html>Please sign in</html>",
            "huge": body + bytes(5000),
            "empty": b"",
        }.get(way, body)
        size, start = len(body), int(self.headers.get("Range", "bytes=0-")[6:-1])
        body = body[start:]
        self.send_response(404 if way == "missing" else 206 if start else 200)
        self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        time.sleep(0.01)
        with self.server.lock:
            self.server.now -= 1
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server(monkeypatch):
    """A server on the loopback interface that counts what it is asked for."""
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        running.asked, running.lock, running.stop = Counter(), threading.Lock(), threading.Event()
        running.now = running.most = 0
        running.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield running
        running.stop.set()
        running.shutdown()
        thread.join(10)


def fetch(wanted: list[Caption], folder: Path, origin: Origin = NOWHERE) -> int:
    """Fetch into a folder; how many pictures were reported."""
    came = []
    fetch_pictures(wanted, folder, origin, LIMITS, lambda: came.append(1))
    return len(came)


def test_all_pictures_come_at_once_and_are_those_that_were_sent(server, tmp_path):
    assert fetch(rows(90, server.url), tmp_path / "new/folder") == 90
    found = {path.name: path.read_bytes() for path in (tmp_path / "new/folder").iterdir()}
    assert found == {f"{n:02d}.jpg": jpeg(n) for n in range(90)}
    assert set(server.asked.values()) == {1}
    assert 4 < server.most <= module.CONNECTIONS


def test_the_tar_is_in_the_captions_order_and_carries_nothing_but_the_pictures(server, tmp_path):
    wanted = rows(12, server.url)
    fetch(wanted, tmp_path / "part")
    names = [row.file_name for row in wanted]
    for time_stamp, folder in ((10**9, "one"), (2 * 10**9, "two")):
        for name in names:
            os.utime(tmp_path / "part" / name, (time_stamp, time_stamp))
        (tmp_path / folder).mkdir()
        pack_pictures(
            wanted, tmp_path / "part", tmp_path / folder / "x.tar", tmp_path / folder / "x.sha256"
        )
    assert (tmp_path / "one/x.tar").read_bytes() == (tmp_path / "two/x.tar").read_bytes()
    (tmp_path / "out").mkdir()
    tar = ["tar", "--extract", "--verbose", "--file", tmp_path / "one/x.tar"]
    listed = subprocess.run(tar, cwd=tmp_path / "out", capture_output=True, text=True, check=True)
    assert listed.stdout.split() == names
    check = ["sha256sum", "--check", "--strict", "--quiet", tmp_path / "one/x.sha256"]
    subprocess.run(check, cwd=tmp_path / "out", check=True)
    assert len((tmp_path / "one/x.sha256").read_text().splitlines()) == 12
    assert {path.stat().st_mtime for path in (tmp_path / "out").iterdir()} == {0.0}


def test_failures_are_told_together_and_only_they_are_fetched_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 4000)
    monkeypatch.setattr(module, "SHOWN", 6)
    with pytest.raises(ImageFetchError) as caught:
        fetch(rows(28, server.url, "bad"), tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "7 of 28 pictures could not be fetched:"
    assert lines[-2] == "  and 1 more, which the log names"
    assert f"The others wait in {tmp_path}; run again" in lines[-1]
    assert len(lines) == 9
    reasons = {
        "01": "it answers 404",
        "05": "not a whole JPEG",
        "09": "16x24 pixels, expected 24x16",
        "13": "not a whole JPEG",
        "17": "not a whole JPEG",
        "21": "expected at most 4000 bytes, got more",
        "25": "got no bytes",
    }
    for line in lines[1:-2]:
        number = line.split(".jpg")[0].strip()
        assert f"  {number}.jpg: {server.url}/bad/{number}.jpg: " in line
        assert reasons[number] in line
    kept = {path.name[:2] for path in tmp_path.iterdir()}
    assert kept == {f"{n:02d}" for n in range(28)} - set(reasons)

    server.asked.clear()
    assert fetch(rows(28, server.url), tmp_path) == 28
    assert set(server.asked) == {f"/good/{number}.jpg" for number in reasons}


def test_after_many_failures_the_rest_is_not_asked_for(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_FAILURES", 3)
    monkeypatch.setattr(module, "CONNECTIONS", 2)
    with pytest.raises(ImageFetchError, match="^at least 3 of 90 pictures could not be fetched"):
        fetch(rows(90, server.url, "missing"), tmp_path)
    assert len(server.asked) < 20


def test_a_killed_fetch_goes_on_where_it_was(server, tmp_path):
    folder = tmp_path / "part"
    wanted = rows(30, server.url, "slow")
    (tmp_path / "captions.tsv").write_text(format_captions(wanted))
    script = (
        "import sys; from pathlib import Path; from t2i.prompts import captions\n"
        "from t2i.fetch import pictures as f\n"
        "from t2i.fetch.transfer import Limits\n"
        "rows = captions.read_captions(Path(sys.argv[1]))\n"
        "f.fetch_pictures(rows, Path(sys.argv[2]), f.Origin('x'), Limits(), lambda: None)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])}
    command = [sys.executable, "-c", script, tmp_path / "captions.tsv", folder]
    with subprocess.Popen(command, env=environment) as child:
        end = time.monotonic() + 60
        while len(list(folder.glob("[0-9]*"))) < 4 and time.monotonic() < end:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    assert sorted(path.name[:2] for path in folder.glob("[0-9]*")) == ["00", "01", "02", "03"]
    server.stop.set()
    server.asked.clear()
    (folder / ".07.jpg.part").write_bytes(jpeg(8)[:700])  # what the kill left of another one
    (folder / "02.jpg").write_bytes(jpeg(2)[:-10])  # what a crash of the machine can leave
    assert fetch(wanted, folder) == 30
    assert set(server.asked) == {f"/slow/{n:02d}.jpg" for n in [2, *range(4, 30)]}
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == {f"{n:02d}.jpg": jpeg(n) for n in range(30)}


def test_the_mirror_is_asked_first_and_what_it_has_wrong_comes_from_elsewhere(server, tmp_path):
    mirror = tmp_path / "mirror/mine/images"
    mirror.mkdir(parents=True)
    for number in range(6):
        (mirror / f"{number:02d}.jpg").write_bytes(jpeg(number)[: -1 if number == 3 else None])
    fetch(rows(8, server.url), tmp_path / "a", Origin("mine/images", str(tmp_path / "mirror")))
    assert set(server.asked) == {"/good/03.jpg", "/good/06.jpg", "/good/07.jpg"}
    assert (tmp_path / "a/03.jpg").read_bytes() == jpeg(3)
    server.asked.clear()
    fetch(rows(8), tmp_path / "b", Origin("good", server.url))
    assert set(server.asked) == {f"/good/{n:02d}.jpg" for n in range(8)}


def test_offline_only_a_folder_is_asked(server, tmp_path):
    mirror = tmp_path / "mirror/mine/images"
    mirror.mkdir(parents=True)
    (mirror / "00.jpg").write_bytes(jpeg(0))
    fetch(
        rows(1, server.url), tmp_path / "a", Origin("mine/images", str(tmp_path / "mirror"), True)
    )
    for place in (str(tmp_path / "mirror"), server.url, None):
        with pytest.raises(ImageFetchError, match="not contacted: the configuration says offline"):
            fetch(rows(2, server.url), tmp_path / "b", Origin("mine/images", place, True))
    assert not server.asked


def test_cocos_addresses_are_asked_over_tls_and_others_without_it_not_at_all(tmp_path):
    published = "http://images.cocodataset.org/val2014/COCO_val2014_000000000042.jpg"
    path = "images.cocodataset.org/val2014/COCO_val2014_000000000042.jpg"
    assert address_over_tls(published) == f"https://s3.amazonaws.com/{path}"
    for address in (f"https://{path}", "http://a.example/images.cocodataset.org/x.jpg", ""):
        assert address_over_tls(address) == address
    for address in ("http://a.example/x.jpg", "file:/etc/hostname", "ftp://a.example/x", ""):
        with pytest.raises(ImageFetchError, match="not an https address"):
            fetch([Caption(1, 1, "x", 16, 24, "x.jpg", address)], tmp_path)


def test_every_cut_is_noticed(tmp_path):
    whole = jpeg(5)
    for end in [*range(0, len(whole), 9), *range(len(whole) - 20, len(whole))]:
        (tmp_path / "x.jpg").write_bytes(whole[:end])
        with pytest.raises(PictureError, match="not a whole JPEG"):
            check_picture(tmp_path / "x.jpg", rows(1)[0])
    (tmp_path / "x.jpg").write_bytes(whole)
    check_picture(tmp_path / "x.jpg", rows(1)[0])


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x.jpg", "a/b.jpg", "/x.jpg", ".x", "a\nb", "a\\b"]
)
def test_names_that_could_leave_the_folder_are_refused(name):
    with pytest.raises(PictureError, match="caption 7: .* is not a plain file name"):
        pictures([Caption(7, 1, "x", 16, 24, name, "")])


def test_two_captions_may_share_a_picture_but_not_two_pictures_a_name():
    one = Caption(1, 5, "one", 16, 24, "x.jpg", "https://a.example/x.jpg")
    other = Caption(2, 5, "other", 16, 24, "x.jpg", "https://a.example/x.jpg")
    assert pictures([one, other]) == [one]
    with pytest.raises(PictureError, match="captions 1 and 3: two pictures called 'x.jpg'"):
        pictures([one, Caption(3, 6, "x", 16, 24, "x.jpg", "https://a.example/y.jpg")])


def test_a_full_disk_is_told_before_the_tar_is_begun(tmp_path, monkeypatch):
    def full(folder: Path, needed: int, what: str) -> None:
        raise DiskFullError(f"{what} needs {needed}")

    (tmp_path / "00.jpg").write_bytes(jpeg(0))
    monkeypatch.setattr(module, "require_space", full)
    with pytest.raises(DiskFullError, match=f"x.tar needs {len(jpeg(0))}"):
        pack_pictures(rows(1), tmp_path, tmp_path / "x.tar", tmp_path / "x.sha256")
    assert [path.name for path in tmp_path.iterdir()] == ["00.jpg"]


@pytest.mark.slow
def test_the_rule_makes_the_tar_from_a_mirror_and_cleans_up(tmp_path):
    place = Workplace(copy_project(tmp_path / "project"))
    mirror = tmp_path / "mirror/mine"
    (mirror / "images").mkdir(parents=True)
    wanted = rows(5)
    for row in wanted:
        (mirror / "images" / row.file_name).write_bytes(jpeg(row.id))
    (mirror / "captions_source.tsv").write_text(format_captions(wanted))
    for name in ("latents.npy", "sample_ids.txt"):
        (mirror / name).write_text("not needed here\n")
    files = {path.name: {"sha256": sha256_file(path)} for path in mirror.glob("*.*")}
    table = table_with(mine={"licence": "CC0", "files": files})
    (place.folder / "sources.json").write_text(table)
    overlay = {"dataset": "mine", "sources": "sources.json", "mirror": str(mirror.parent)}
    place.snakemake("resources/mine/images.tar", overlay={**overlay, "offline": True})
    made = place.folder / "resources/mine"
    assert (made / "images.sha256").read_text() == "".join(
        f"{sha256_bytes(jpeg(row.id))}  {row.file_name}\n" for row in wanted
    )
    listed = subprocess.run(["tar", "tf", made / "images.tar"], capture_output=True, text=True)
    assert listed.stdout.split() == [row.file_name for row in wanted]
    assert not (made / ".images.part").exists()
