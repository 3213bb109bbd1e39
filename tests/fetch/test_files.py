"""A server may do what it likes: the input arrives exactly, or a message says why not."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fetch_fixtures import LIMITS, NAME, SHA256, SIZE, outcome, source
from misbehaving_server import BEHAVIOURS, CONTENT, HTML, WRONG
from t2i.fetch.files import FetchError, fetch, part_path
from t2i.fetch.http import HttpClient
from t2i.fetch.transfer import Expected, transfer

pytestmark = pytest.mark.usefixtures("no_secret_is_shown")

WRONG_SHA256 = hashlib.sha256(WRONG).hexdigest()
KEPT = 100_000
PARTS = {
    "none": b"",
    "good": CONTENT[:KEPT],
    "bad": WRONG[:KEPT],
    "long": CONTENT + b"and more",
}
HOURS = ("it answers 503 and asks for 3", "s of waiting; run again later")
BROKE = "the connection broke, 3 times in a row"

# By path: the requests that a server may be asked where there is no part.
RECOVERED = {
    "good": 1,
    "whole": 1,
    "drop:half,good": 2,
    "drop:60000": 6,
    "whole:half,whole": 2,
    "wrong:100000,changed": 3,
    "announces:many": 1,
    "announces:" + "9" * 5000: 1,
    "sends_more": 1,
    "no_length": 1,
    "chunked": 1,
    "chunked:": 2,
    "chunked:many": 2,
    "chunked_cut,good": 2,
    "stall:half,good": 2,
    "no_answer,good": 2,
    "hangs_up,good": 2,
    "reset,good": 2,
    "reset:100000,good": 2,
    "drop:0,drop:0,good": 3,
    "no_such_range": 1,
    "drop:half,no_such_range": 3,
    "tail_as_whole": 1,
    "other_range:0.5": 1,
    "other_range:1:1000": 1,
    "drop:half,other_range:0.5,good": 3,
    f"range_header:bytes%200-{SIZE - 1}%2F{SIZE},good": 2,
    "status:429:0,good": 2,
    "status:503:date:0,good": 2,
    "status:503:soon,good": 2,
    "status:503:-1,good": 2,
    "status:500,good": 2,
    "status:502,status:504,good": 3,
    "redirect:301": 2,
    "redirect:302": 2,
    "redirect:303": 2,
    "redirect:307": 2,
    "redirect:308": 2,
    "redirect:302:whole": 2,
    "redirect_to:localhost": 2,
    "redirect_to:other_port": 2,
    "redirect_to:signed": 2,
}
# These send the whole file again, so a good part saves nothing.
FROM_THE_START = {
    "whole",
    "whole:half,whole",
    "wrong:100000,changed",
    "announces:many",
    "announces:" + "9" * 5000,
    "sends_more",
    "no_length",
    "chunked",
    "chunked:",
    "chunked:many",
    "chunked_cut,good",
    "no_such_range",
    "drop:half,no_such_range",
    "tail_as_whole",
    "other_range:0.5",
    "other_range:1:1000",
    "drop:half,other_range:0.5,good",
    f"range_header:bytes%200-{SIZE - 1}%2F{SIZE},good",
    "redirect:302:whole",
}
# By path: the requests at most, and words of the message.
REFUSED = {
    "drop:half": (5, BROKE, f"{SIZE // 2} bytes are kept"),
    "whole:half": (5, BROKE, f"{SIZE // 2} bytes are kept"),
    "announces:1000": (1, f"expected {SIZE} bytes, it offers 1000 of"),
    "announces:900000": (1, f"expected {SIZE} bytes, it offers 900000 of"),
    "no_length:1000": (5, f"closed after 1000 of {SIZE} bytes, 3 times in a row"),
    "no_length::x": (1, f"expected {SIZE} bytes, got more"),
    "endless": (1, f"expected {SIZE} bytes, got more"),
    "wrong": (2, f"expected sha256 {SHA256}, got {WRONG_SHA256}"),
    "html": (1, f"it offers {len(HTML)} of text/html", "login page"),
    "page": (1, f"expected {SIZE} bytes, it offers a page of text/html"),
    f"html:{SIZE}": (2, f"sha256 {SHA256}", hashlib.sha256(HTML.ljust(SIZE)).hexdigest()),
    "pointer": (1, "of text/plain"),
    "empty": (1, "it offers 0 of"),
    "chunked_cut": (5, BROKE),
    "drips": (4, "bytes a second for 1 s, 3 times in a row"),
    "stall:half": (5, "no byte for 0.3 s, 3 times in a row"),
    "no_answer": (3, "no byte for 0.3 s, 3 times in a row"),
    "hangs_up": (3, BROKE),
    "reset": (3, BROKE),
    "range_header": (5, "a different range than requested"),
    "range_header:bytes=0": (5, "a different range than requested"),
    "gzipped": (1, "gzip", "not requested"),
    "status:503:36000": (1, *HOURS),
    "status:503:date:36000": (1, *HOURS),
    "status:429:0": (3, "it answers 429, 3 times in a row"),
    "status:503:0": (3, "it answers 503, 3 times in a row"),
    "status:500": (3, "it answers 500, 3 times in a row"),
    "status:400": (1, "it answers 400"),
    "status:401": (1, "it answers 401: it wants a token"),
    "status:403": (1, "it answers 403: it wants a token, or its licence"),
    "status:404": (1, "it answers 404: there is no such file"),
    "status:410": (1, "it answers 410: there is no such file"),
    "status:302": (1, "redirects without a target"),
    "redirect_to:itself": (10, "redirects more than 10 times"),
    "redirect_to:ftp": (1, "redirects to ftp://127.0.0.1/x, not to http or https; refused"),
    "redirect_to:file": (1, "redirects to file:///etc/hostname, not to http or https; refused"),
    "redirect_to:bad_port": (1, "is not an address"),
    "redirect_to:bad_host": (1, "redirects to an invalid address"),
    "huge_header": (3, BROKE),
    "many_headers": (3, BROKE),
    "not_http": (3, BROKE),
}


# No reason to give up what is kept.
ANSWERED_BY_SOMETHING_ELSE = (
    "html",
    "page",
    "pointer",
    "empty",
    "gzipped",
    "status:404",
    "not_http",
)


def test_every_way_to_misbehave_is_tried():
    paths = ",".join([*RECOVERED, *REFUSED]).split(",")
    assert {path.partition(":")[0] for path in paths} == set(BEHAVIOURS)
    assert len(BEHAVIOURS) >= 30


SLOW = ("drips", "stall:half", "no_answer")  # a second and more each, so not with every part
CASES = [
    (path, kept)
    for path in RECOVERED | REFUSED
    for kept in PARTS
    if path not in SLOW or kept in ("none", "good")
]


@pytest.mark.parametrize("path, kept", CASES, ids=lambda value: value[:40])
def test_file_arrives_exactly_or_a_message_says_why_not(server, servers, destination, path, kept):
    if PARTS[kept]:
        part_path(destination, source()).write_bytes(PARTS[kept])
    refused = REFUSED.get(path)
    message = outcome(server, path, destination)
    asked = sum(len(each.asked) for each in servers)
    if refused is None:
        assert message is None
        # Of a bad part the digest tells at the end, and then the file is fetched from the start.
        assert asked <= RECOVERED[path] * (1 if kept in ("none", "long") else 2) + (kept == "good")
        if kept == "good" and path not in FROM_THE_START:
            pages = len(HTML) * (asked - 1)  # of redirects and errors
            assert sum(each.sent() for each in servers) <= SIZE - KEPT + pages
    else:
        most, *words = refused
        assert message is not None
        for word in words:
            assert word in message
        assert asked <= most + (0 if kept in ("none", "long") else 1)
        if kept == "good" and path in ANSWERED_BY_SOMETHING_ELSE:
            assert part_path(destination, source()).read_bytes() == PARTS["good"]
        assert outcome(server, "good", destination) is None


def test_a_pipe_is_not_waited_for(tmp_path, destination):
    (tmp_path / NAME).parent.mkdir(parents=True)
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(FetchError, match="no regular file"):
        fetch(source(), destination, str(tmp_path), False, LIMITS)


@pytest.mark.parametrize("path", ["good", "no_answer", "wrong"])
def test_whole_part_is_published_without_a_request(server, destination, path):
    part_path(destination, source()).write_bytes(CONTENT)
    assert outcome(server, path, destination) is None
    assert server.asked == []


TRANSIENT = st.sampled_from(["hangs_up", "reset", "status:503:0", "no_length:9"]) | st.one_of(
    st.integers(0, SIZE).map("drop:{}".format),
    st.integers(0, SIZE).map("whole:{}".format),
    st.integers(0, SIZE).map("reset:{}".format),
    st.integers(SIZE // 2, SIZE - 1).map("stall:{}".format),
)
OTHERS = st.sampled_from(["html", "tail_as_whole", "no_such_range", "status:404"]) | st.integers(
    0, SIZE
).map("wrong:{}".format)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(TRANSIENT, max_size=LIMITS.attempts - 1) | st.lists(TRANSIENT | OTHERS),
    kept=st.sampled_from(sorted(PARTS)),
)
def test_any_sequence_of_faults_ends_in_the_file_or_a_message(server, destination, steps, kept):
    server.asked.clear()
    part_path(destination, source()).write_bytes(PARTS[kept])
    message = outcome(server, ",".join([*steps, "good"]), destination)
    assert len(server.asked) <= len(steps) + 3
    if len(steps) < LIMITS.attempts and not any(
        step.startswith(("html", "tail", "no_such", "status:404", "wrong")) for step in steps
    ):
        assert message is None
    shutil.rmtree(destination.parent)
    destination.parent.mkdir()


@pytest.mark.parametrize("algorithm", ["sha256", "git_blob", "md5"])
@pytest.mark.parametrize(
    "path", ["good", "no_length", "chunked", "drop:60000", "whole:half,whole", "redirect"]
)
def test_size_need_not_be_known(server, destination, path, algorithm):
    digest = {
        "sha256": SHA256,
        "git_blob": hashlib.sha1(b"blob %d\0" % SIZE + CONTENT).hexdigest(),
        "md5": hashlib.md5(CONTENT).hexdigest(),
    }[algorithm]
    options = {"size": None, "algorithm": algorithm, "digest": digest}
    assert outcome(server, path, destination, **options) is None
    message = outcome_of_wrong_digest(server, path, destination, options)
    assert f"expected {algorithm} {'0' * len(digest)}, got {digest}" in message


def outcome_of_wrong_digest(server, path, destination, options):
    """What is said of the same file when the table gives another digest."""
    destination.unlink()
    return outcome(server, path, destination, **options | {"digest": "0" * len(options["digest"])})


@pytest.mark.parametrize("path", ["no_length:1000", "no_length::x", "html", "pointer", "empty"])
def test_wrong_content_is_refused_by_its_digest_where_the_size_is_unknown(
    server, destination, path
):
    message = outcome(server, path, destination, size=None)
    assert f"expected sha256 {SHA256}, got " in message


def test_endless_file_of_unknown_size_is_cut_off(server, destination, monkeypatch):
    monkeypatch.setattr("t2i.fetch.files.LARGEST", 1_000_000)
    message = outcome(server, "endless", destination, size=None)
    assert "expected at most 1000000 bytes, got more" in message
    assert server.sent() < 20_000_000


@pytest.mark.parametrize("value", ["1", "date:2"])
def test_server_gets_the_pause_that_it_asks_for(server, destination, value):
    began = time.monotonic()
    assert outcome(server, f"status:503:{value},good", destination) is None
    assert time.monotonic() - began >= 1


def test_connection_with_bytes_left_over_is_not_used_again(server, tmp_path):
    expected = Expected(SIZE, "sha256", SHA256)
    with HttpClient(LIMITS.silence) as client:
        for number in range(4):
            path = tmp_path / str(number)
            transfer(client, f"{server.url}/sends_more/x", path, expected, LIMITS)
            assert path.read_bytes() == CONTENT
    assert len(server.asked) == 4


def test_part_of_another_process_is_waited_for(server, destination):
    part = part_path(destination, source())
    with part.open("wb") as handle, ThreadPoolExecutor(1) as pool:
        fcntl.flock(handle, fcntl.LOCK_EX)
        waiting = pool.submit(outcome, server, "good", destination)
        time.sleep(0.2)
        assert server.asked == []
        part.unlink()  # as a process does that could not get anything
        fcntl.flock(handle, fcntl.LOCK_UN)
        assert waiting.result() is None


def test_another_process_may_publish_the_part_first(server, destination, monkeypatch):
    def faster(client, address, part, *others):
        transfer(client, address, part, *others)
        part.replace(destination)

    monkeypatch.setattr("t2i.fetch.files.transfer", faster)
    assert outcome(server, "good", destination) is None


def test_two_processes_may_fetch_the_same_input(server, destination):
    code = (
        "import sys; from pathlib import Path; from t2i.fetch.files import fetch;"
        "from t2i.fetch.table import Source; from t2i.fetch.transfer import Limits;"
        "address, path, digest = sys.argv[1:];"
        f"source = Source('x', address, '', {SIZE}, 'sha256', digest);"
        "fetch(source, Path(path), None, False, Limits(pause=0.05))"
    )
    command = [sys.executable, "-c", code, f"{server.url}/drop:100000/two", destination, SHA256]
    scripts = Path(__file__).parents[2] / "scripts"
    environment = os.environ | {"PYTHONPATH": str(scripts)}
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert destination.read_bytes() == CONTENT
    assert list(destination.parent.iterdir()) == [destination]
    assert server.sent() <= 2 * SIZE
