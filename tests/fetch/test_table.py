"""An input comes from the first place that has it: a mirror, or where the table says it is."""

import hashlib
import os
import resource
import socket
import subprocess

import pytest

from fetch_fixtures import LIMITS, NAME, SHA256, SIZE, TOKEN, source
from misbehaving_server import CONTENT, WRONG
from t2i.base.files import file_digest
from t2i.fetch.files import FetchError, fetch, missing_offline, part_path
from t2i.job.disk import DiskFullError

WRONG_SHA256 = hashlib.sha256(WRONG).hexdigest()


@pytest.fixture
def mirror(tmp_path):
    """A folder that holds the input under its name."""
    path = tmp_path / "mirror" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return tmp_path / "mirror"


def get(source, destination, mirror=None, offline=False):
    return fetch(source, destination, mirror and str(mirror), offline, LIMITS, TOKEN)


def refused(source, destination, mirror=None, offline=False):
    """The message of a fetch that must fail and leave nothing."""
    with pytest.raises(FetchError) as caught:
        get(source, destination, mirror, offline)
    assert not destination.exists()
    assert not any(destination.parent.iterdir())
    return str(caught.value)


def test_folder_mirror_is_asked_first(mirror, destination, server):
    found = get(source(f"{server.url}/good/x"), destination, mirror)
    assert destination.read_bytes() == CONTENT
    assert found == f"file:{mirror}/{NAME}"
    assert server.asked == []


@pytest.mark.parametrize("name", ["with space", "a#b", "a?b", "100%", "%41", "ä", "a:b"])
def test_folder_may_have_any_name(mirror, destination, name):
    get(source(), destination, mirror.rename(mirror.with_name(name)))
    assert destination.read_bytes() == CONTENT


@pytest.mark.parametrize("form", ["file:{}", "file://{}", "file://{}/"])
def test_mirror_may_be_a_file_address(mirror, destination, form):
    get(source(), destination, form.format(mirror), True)
    assert destination.read_bytes() == CONTENT


def test_address_may_be_a_file_relative_to_the_project(mirror, destination, monkeypatch):
    monkeypatch.chdir(mirror)
    assert get(source(f"file:{NAME}"), destination, None, True) == f"file:{NAME}"
    assert destination.read_bytes() == CONTENT


@pytest.mark.parametrize("slash", ["", "/"])
def test_mirror_may_be_an_address(destination, server, slash):
    get(source(), destination, f"{server.url}/good{slash}")
    assert destination.read_bytes() == CONTENT
    assert [asked.path for asked in server.asked] == [f"/good/{NAME}"]


@pytest.mark.parametrize(
    "where", ["empty folder", "status:404", "status:401", "html", "wrong", "hangs_up", "not_http"]
)
def test_what_the_mirror_lacks_or_has_wrong_comes_from_the_published_address(
    destination, server, where, tmp_path
):
    mirror = tmp_path / "none" if where == "empty folder" else f"{server.url}/{where}"
    address = f"{server.url}/good/x"
    assert get(source(address), destination, mirror) == address
    assert destination.read_bytes() == CONTENT


def test_what_the_mirror_began_the_published_address_ends(destination, server):
    get(source(f"{server.url}/good/x"), destination, f"{server.url}/drop:half")
    assert destination.read_bytes() == CONTENT
    assert server.sent() == SIZE


@pytest.mark.parametrize(
    "content, words",
    [
        (WRONG, f"expected sha256 {SHA256}, got {WRONG_SHA256}"),
        (CONTENT[:-1], f"expected {SIZE} bytes, got {SIZE - 1}"),
        (CONTENT + b"x", f"expected {SIZE} bytes, got more"),
        (b"", f"expected {SIZE} bytes, got 0"),
    ],
)
def test_wrong_file_in_the_mirror_is_named_and_left_alone(mirror, destination, content, words):
    (mirror / NAME).write_bytes(content)
    message = refused(source(), destination, mirror)
    assert f"  file:{mirror}/{NAME}: {words}" in message
    assert (mirror / NAME).read_bytes() == content


def test_folder_in_the_place_of_the_mirrors_file_is_named(mirror, destination):
    (mirror / NAME).unlink()
    (mirror / NAME).mkdir()
    assert f"file:{mirror}/{NAME}: Is a directory" in refused(source(), destination, mirror)


@pytest.mark.parametrize("path", ["wrong", "drop:half", "status:404"])
def test_failed_fetch_leaves_an_earlier_file_alone(destination, server, path):
    destination.write_bytes(b"of an earlier run")
    with pytest.raises(FetchError):
        get(source(f"{server.url}/{path}/earlier"), destination)
    assert destination.read_bytes() == b"of an earlier run"


def test_offline_opens_no_socket(mirror, destination, monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a socket was opened"))
    message = refused(
        source("https://example.org/x"), destination, "http://mirror.example.org/", True
    )
    assert "http://mirror.example.org/data/captions.tsv: not contacted" in message
    assert "https://example.org/x: not contacted: the configuration says offline" in message
    get(source("https://example.org/x"), destination, mirror, True)
    assert destination.read_bytes() == CONTENT


def test_what_is_missing_offline_is_known_beforehand(mirror, tmp_path):
    remote, local = source("https://example.org/x"), source(f"file:{mirror}/{NAME}")
    folder = tmp_path / "resources"
    assert missing_offline([remote, local], folder, None) == [remote]
    assert missing_offline([remote], folder, "https://mirror.example.org/") == [remote]
    assert missing_offline([remote], folder, str(mirror)) == []
    (mirror / NAME).rename(tmp_path / "kept")
    assert missing_offline([remote, local], folder, str(mirror)) == [remote, local]
    (folder / NAME).parent.mkdir(parents=True)
    (tmp_path / "kept").rename(folder / NAME)
    assert missing_offline([remote, local], folder, None) == []


def test_message_says_what_was_tried_and_what_to_do(destination, server, tmp_path):
    message = refused(source(f"{server.url}/status:404/x"), destination, tmp_path / "empty")
    lines = message.splitlines()
    assert lines[0] == f"{NAME} could not be fetched:"
    assert f"  file:{tmp_path}/empty/{NAME}: No such file" in lines[1]
    assert f"  {server.url}/status:404/x: it answers 404" in lines[2]
    assert f"sha256 {SHA256}" in lines[3]
    assert f"as {NAME}" in lines[3]
    assert "`mirror`" in lines[3]


def test_input_without_any_address_says_so(destination):
    assert "the table gives no address" in refused(source(), destination)


@pytest.mark.parametrize("address", ["ftp://example.org/x", "s3://bucket/x", "example.org/x"])
def test_unknown_kind_of_address_is_refused(destination, address):
    message = refused(source(address), destination)
    assert f"{address}: expected an address that begins with file:, http: or https:" in message


@pytest.mark.parametrize("address", ["http://[::1/x", "http://127.0.0.1:99999/x", "http:///x"])
def test_address_that_is_none_is_refused(destination, address):
    assert f"{address}: " in refused(source(address), destination)


def test_host_that_does_not_answer_is_named(destination):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/x"
        assert f"{address}: no connection, 3 times in a row" in refused(
            source(address), destination
        )


@pytest.mark.parametrize("size", [SIZE, None])
def test_git_digest_is_gits_own(mirror, destination, size):
    git = subprocess.run(
        ["git", "hash-object", str(mirror / NAME)], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert file_digest(mirror / NAME, "git_blob") == git
    wrong = source(size=size, algorithm="git_blob", digest="0" * 40)
    message = refused(wrong, destination, mirror)
    assert f"expected git_blob {'0' * 40}, got {git}" in message
    get(source(size=size, algorithm="git_blob", digest=git), destination, mirror)
    assert destination.read_bytes() == CONTENT


def test_md5_is_md5sums(mirror, destination):
    peer = subprocess.run(
        ["md5sum", str(mirror / NAME)], capture_output=True, text=True, check=True
    ).stdout
    get(source(algorithm="md5", digest=peer[:32]), destination, mirror)
    assert destination.read_bytes() == CONTENT


def test_part_that_is_a_link_is_not_written_through(server, destination, tmp_path):
    victim = tmp_path / "precious"
    victim.write_bytes(b"precious")
    part_path(destination, source()).symlink_to(victim)
    with pytest.raises((FetchError, OSError), match=r"\.captions\.tsv\.[0-9a-f]{12}\.part"):
        get(source(f"{server.url}/good/x"), destination)
    assert victim.read_bytes() == b"precious"
    assert not destination.exists()


def test_folder_in_the_place_of_the_part_or_the_file_is_named(server, destination):
    part = part_path(destination, source())
    for path in (part, destination):
        path.mkdir()
        with pytest.raises((FetchError, OSError), match=path.name):
            get(source(f"{server.url}/good/x"), destination)
        assert path.is_dir()
        path.rmdir()
    get(source(f"{server.url}/good/x"), destination)
    assert destination.read_bytes() == CONTENT


@pytest.mark.parametrize("folder", ["/proc/t2i", "{}/file/below"])
def test_folder_that_cannot_be_made_is_named(server, tmp_path, folder):
    (tmp_path / "file").touch()
    destination = tmp_path.joinpath(folder.format(tmp_path), "x")
    with pytest.raises((FetchError, OSError), match=str(destination.parent.name)):
        get(source(f"{server.url}/good/x"), destination)
    assert server.asked == []


def test_folder_that_is_not_writable_is_named(server, destination):
    if os.geteuid() == 0:
        pytest.skip("everything is writable for root")
    destination.parent.chmod(0o500)
    with pytest.raises((FetchError, OSError), match="captions.tsv"):
        get(source(f"{server.url}/good/x"), destination)
    destination.parent.chmod(0o700)
    assert server.asked == []


def test_file_that_does_not_fit_is_not_begun(server, destination):
    with pytest.raises(DiskFullError, match=NAME):
        get(source(f"{server.url}/good/x", size=10**18), destination)
    assert server.asked == []


def test_disk_that_fills_up_on_the_way_is_an_error_and_the_part_goes_on(server, destination):
    address = f"{server.url}/good/x"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises((FetchError, OSError), match="File too large"):
            get(source(address), destination)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not destination.exists()
    server.asked.clear()
    get(source(address), destination)
    assert destination.read_bytes() == CONTENT
    assert server.sent() == SIZE - 200_000
