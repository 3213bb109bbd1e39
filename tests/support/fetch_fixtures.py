"""What the tests of fetching share: one input, a table entry for it, and two servers."""

import hashlib
import logging
import time

import pytest

from misbehaving_server import CONTENT, running
from t2i.fetch.files import FetchError, fetch
from t2i.fetch.table import Source
from t2i.fetch.transfer import Limits

SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "data/captions.tsv"
TOKEN = "canary-hf_0123456789"
LIMITS = Limits(
    silence=0.3, window=0.6, minimum_speed=1000, attempts=3, pause=0.02, longest_wait=5.0
)


def source(address="", size=SIZE, algorithm="sha256", digest=SHA256):
    """The one input that these tests fetch."""
    return Source(NAME, address, "CC0", size, algorithm, digest)


@pytest.fixture(scope="module")
def servers():
    """Two servers, of which the first knows addresses to redirect to."""
    with running() as server, running() as other:
        port = server.server_address[1]
        server.addresses |= {
            "localhost": f"http://localhost:{port}/good/x",
            "other_port": f"{other.url}/good/x",
            "signed": f"{server.url}/good/x?signature={TOKEN}",
            "itself": f"{server.url}/redirect_to:itself/x",
            "ftp": f"ftp://reader:{TOKEN}@127.0.0.1/x?signature={TOKEN}",
            "file": "file:///etc/hostname",
            "bad_port": "http://127.0.0.1:99999/x",
            "bad_host": "http://[::1/x",
        }
        yield server, other


@pytest.fixture
def server(servers, monkeypatch):
    """The first server, asked without a proxy, with empty lists of requests."""
    monkeypatch.setenv("no_proxy", "*")
    for each in servers:
        each.asked.clear()
    return servers[0]


@pytest.fixture
def destination(tmp_path):
    path = tmp_path / "resources" / NAME
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def no_secret_is_shown(tmp_path, caplog):
    """The token is neither logged nor written anywhere."""
    caplog.set_level(logging.INFO)
    yield
    assert TOKEN not in caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in files)


def outcome(server, path, destination, **options):
    """What a fetch says, None where it succeeded; checks what holds in any case."""
    number = len(list(destination.parent.parent.iterdir())) + time.monotonic_ns()
    wanted = source(f"{server.url}/{path}/{number}", **options)
    began = time.monotonic()
    try:
        assert fetch(wanted, destination, None, False, LIMITS, TOKEN) == wanted.address
    except FetchError as error:
        assert not destination.exists()
        message = str(error)
        assert message.startswith(f"{NAME} could not be fetched:\n")
        assert wanted.address in message
        assert TOKEN not in message
    else:
        assert destination.read_bytes() == CONTENT
        assert list(destination.parent.iterdir()) == [destination]
        message = None
    assert time.monotonic() - began < 10
    return message
