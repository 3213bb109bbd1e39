"""An input is the one that the table names, or there is none."""

import hashlib
import http.server
import re
import socket
import subprocess
import threading
import urllib.request

import pytest

from t2i.sources import FetchError, Source, _NoDowngrade, fetch, file_digest

CONTENT = b"captions of a data set\n" * 1000
SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "data/captions.tsv"


def source(address="", size=SIZE, algorithm="sha256", digest=SHA256):
    """The one input that these tests fetch."""
    return Source(NAME, address, "CC0", size, algorithm, digest)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each path in its own way."""

    def do_GET(self):
        """Serve the content, or something wrong."""
        self.server.asked.append(self.path)
        getattr(self, f"do_{self.path.strip('/').partition('/')[0]}", self.do_missing)()

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_good(self):
        self.answer(200, CONTENT)

    def do_missing(self):
        self.answer(404)

    def do_error(self):
        self.answer(503, Retry_After=1)

    def do_short(self):
        self.answer(200, CONTENT[:-1])

    def do_long(self):
        self.answer(200, CONTENT + b"x")

    def do_changed(self):
        self.answer(200, CONTENT.replace(b"set", b"SET", 1))

    def do_portal(self):
        self.answer(200, b"<html>Please sign in</html>", Content_Type="text/html")

    def do_cut(self):
        self.answer(200, CONTENT[:5000], Content_Length=len(CONTENT))

    def do_chunks(self):
        """Chunked transfer that ends in the middle."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"1000\r\n" + CONTENT[:100])

    def do_nonsense(self):
        self.wfile.write(b"this is not HTTP\r\n\r\n")

    def do_moved(self):
        self.answer(302, Location="/good/x")

    def do_loop(self):
        self.answer(302, Location="/loop/x")

    def do_toftp(self):
        self.answer(302, Location="ftp://127.0.0.1/x")

    def do_tofile(self):
        self.answer(302, Location="file:///etc/hostname")

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def server():
    """A server on the loopback interface, with the list of paths it was asked for."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        running.protocol_version = "HTTP/1.1"
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join(10)


@pytest.fixture
def address(server, monkeypatch):
    """The server's address, asked without a proxy."""
    monkeypatch.setenv("no_proxy", "*")
    server.asked.clear()
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def mirror(tmp_path):
    """A folder that holds the input under its name."""
    path = tmp_path / "mirror" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return tmp_path / "mirror"


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "resources" / NAME


def refused(source, destination, mirror=None, offline=False):
    """The message of a fetch that must fail and leave nothing."""
    with pytest.raises(FetchError) as caught:
        fetch(source, destination, mirror, offline)
    assert not destination.exists()
    assert not destination.parent.exists() or not any(destination.parent.iterdir())
    return str(caught.value)


def test_folder_mirror_is_asked_first(mirror, destination, address, server):
    found = fetch(source(f"{address}/good/x"), destination, str(mirror), False)
    assert destination.read_bytes() == CONTENT
    assert found == f"file:{mirror}/{NAME}"
    assert server.asked == []


@pytest.mark.parametrize("name", ["with space", "a#b", "a?b", "100%", "%41", "ä", "a:b"])
def test_folder_may_have_any_name(mirror, destination, name):
    other = mirror.rename(mirror.with_name(name))
    fetch(source(), destination, str(other), False)
    assert destination.read_bytes() == CONTENT


@pytest.mark.parametrize("form", ["file:{}", "file://{}", "file://{}/"])
def test_mirror_may_be_a_file_address(mirror, destination, form):
    fetch(source(), destination, form.format(mirror), True)
    assert destination.read_bytes() == CONTENT


def test_address_may_be_a_file_relative_to_the_project(mirror, destination, monkeypatch):
    monkeypatch.chdir(mirror)
    assert fetch(source(f"file:{NAME}"), destination, None, True) == f"file:{NAME}"
    assert destination.read_bytes() == CONTENT


def test_mirror_may_be_an_address(destination, address, server):
    fetch(source(), destination, f"{address}/good/", False)
    assert destination.read_bytes() == CONTENT
    assert server.asked == [f"/good/{NAME}"]


@pytest.mark.parametrize("size", [len(CONTENT), None])
@pytest.mark.parametrize("path", ["good", "moved"])
def test_published_address_serves(destination, address, path, size):
    assert fetch(source(f"{address}/{path}/x", size), destination, None, False).endswith("/x")
    assert destination.read_bytes() == CONTENT


@pytest.mark.parametrize("where", ["folder", "server"])
def test_what_the_mirror_lacks_comes_from_the_published_address(
    destination, address, server, where, tmp_path
):
    mirror = str(tmp_path / "empty") if where == "folder" else f"{address}/missing"
    found = fetch(source(f"{address}/good/x"), destination, mirror, False)
    assert found == f"{address}/good/x"
    assert destination.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "path, words",
    [
        ("missing", "HTTP Error 404"),
        ("error", "HTTP Error 503"),
        ("loop", "infinite loop"),
        ("toftp", "redirects to ftp://127.0.0.1/x, not to http or https; refused"),
        ("tofile", "file:///etc/hostname"),
        ("nonsense", "/nonsense/x: "),
        ("chunks", "/chunks/x: "),
    ],
)
def test_server_that_does_not_serve_is_named(destination, address, path, words):
    message = refused(source(f"{address}/{path}/x"), destination)
    assert words in message
    assert f"{address}/{path}/x" in message


@pytest.mark.parametrize(
    "path, got",
    [
        ("short", f"got {len(CONTENT) - 1};"),
        ("long", f"got more than {len(CONTENT)};"),
        ("cut", "got 5000;"),
        ("portal", "got 27;"),
    ],
)
def test_wrong_size_is_refused_with_both_sizes(destination, address, path, got):
    message = refused(source(f"{address}/{path}/x"), destination)
    assert f"expected {len(CONTENT)} bytes, {got}" in message
    assert f"{NAME} from {address}/{path}/x" in message
    assert "nothing was kept" in message


@pytest.mark.parametrize("path", ["short", "long", "cut", "portal", "changed"])
def test_wrong_content_is_refused_by_digest_where_the_size_is_unknown(destination, address, path):
    message = refused(source(f"{address}/{path}/x", size=None), destination)
    assert f"expected sha256 {SHA256}, got " in message


def test_right_length_with_a_wrong_byte_is_refused_with_both_digests(destination, address):
    wrong = hashlib.sha256(CONTENT.replace(b"set", b"SET", 1)).hexdigest()
    message = refused(source(f"{address}/changed/x"), destination)
    assert f"expected sha256 {SHA256}, got {wrong};" in message


def test_wrong_file_in_the_mirror_is_refused_not_replaced(mirror, destination, address, server):
    wrong = CONTENT.replace(b"set", b"SET", 1)
    (mirror / NAME).write_bytes(wrong)
    message = refused(source(f"{address}/good/x"), destination, str(mirror))
    assert f"{NAME} from file:{mirror}/{NAME}" in message
    assert f"expected sha256 {SHA256}, got {hashlib.sha256(wrong).hexdigest()}" in message
    assert server.asked == []
    assert (mirror / NAME).read_bytes() == wrong


def test_failed_fetch_leaves_an_earlier_file_alone(destination, address):
    destination.parent.mkdir(parents=True)
    destination.write_bytes(b"of an earlier run")
    with pytest.raises(FetchError):
        fetch(source(f"{address}/changed/x"), destination, None, False)
    assert destination.read_bytes() == b"of an earlier run"
    assert list(destination.parent.iterdir()) == [destination]


def test_offline_opens_no_socket(mirror, destination, monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a socket was opened"))
    message = refused(
        source("https://example.org/x"), destination, "http://mirror.example.org/", True
    )
    assert "http://mirror.example.org/data/captions.tsv: not asked" in message
    assert "https://example.org/x: not asked, the configuration says offline" in message
    fetch(source("https://example.org/x"), destination, str(mirror), True)
    assert destination.read_bytes() == CONTENT


def test_message_says_what_was_tried_and_what_to_do(destination, address, tmp_path):
    message = refused(source(f"{address}/missing/x"), destination, str(tmp_path / "empty"))
    lines = message.splitlines()
    assert lines[0] == f"{NAME} could not be had:"
    assert "No such file" in lines[1]
    assert "404" in lines[2]
    assert f"sha256 {SHA256}" in lines[3]
    assert f"as {NAME}" in lines[3]
    assert "`mirror`" in lines[3]


def test_input_without_any_address_says_so(destination):
    assert "the table gives no address" in refused(source(), destination)


@pytest.mark.parametrize("address", ["ftp://example.org/x", "s3://bucket/x", "example.org/x"])
def test_unknown_kind_of_address_is_refused(destination, address):
    message = refused(source(address), destination)
    assert f"{address}: expected an address that begins with file:, http: or https:" in message


@pytest.mark.parametrize("target", ["http://b.example/x", "ftp://b.example/x", "file:///etc/x"])
def test_https_is_never_left(target):
    request = urllib.request.Request("https://a.example/x")
    with pytest.raises(FetchError, match=re.escape(f"redirects to {target}, not to https")):
        _NoDowngrade().redirect_request(request, None, 302, "Found", {}, target)


@pytest.mark.parametrize("start", ["http", "https"])
def test_redirect_to_https_is_followed(start):
    request = urllib.request.Request(f"{start}://a.example/x")
    followed = _NoDowngrade().redirect_request(
        request, None, 302, "Found", {}, "https://b.example/y"
    )
    assert followed.full_url == "https://b.example/y"


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_git_digest_is_gits_own(mirror, destination, size):
    git = subprocess.run(
        ["git", "hash-object", str(mirror / NAME)], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert file_digest(mirror / NAME, "git_blob") == git
    fetch(source(size=size, algorithm="git_blob", digest=git), destination, str(mirror), True)
    wrong = source(size=size, algorithm="git_blob", digest="0" * 40)
    message = refused(wrong, destination.parent / "new" / "x", str(mirror))
    assert f"expected git_blob {'0' * 40}, got {git}" in message


def test_md5_is_understood(mirror, destination):
    digest = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    fetch(source(algorithm="md5", digest=digest), destination, str(mirror), True)
    assert destination.read_bytes() == CONTENT
