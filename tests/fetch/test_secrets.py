"""Tokens and passwords go to the host that they are meant for, and are never shown."""

import subprocess

import pytest
from requests.auth import HTTPBasicAuth
from requests.models import PreparedRequest

from fetch_fixtures import LIMITS, NAME, TOKEN, outcome, source
from misbehaving_server import running
from t2i.fetch.files import FetchError, fetch
from t2i.fetch.http import TransferError, redirected

pytestmark = pytest.mark.usefixtures("no_secret_is_shown")


def authorizations(server, name="Authorization"):
    return [asked.headers.get(name) for asked in server.asked]


def basic(user, password):
    """The header that the requests library sends."""
    peer = PreparedRequest()
    peer.headers = {}
    return HTTPBasicAuth(user, password)(peer).headers["Authorization"]


@pytest.mark.parametrize("path, sent", [("redirect", True), ("redirect_to:other_port", False)])
def test_token_goes_to_the_tables_host_alone(server, servers, destination, path, sent):
    assert outcome(server, path, destination) is None
    seen = authorizations(server) + authorizations(servers[1])
    assert seen == [f"Bearer {TOKEN}", f"Bearer {TOKEN}" if sent else None]


def test_token_does_not_go_to_the_mirror(server, servers, destination):
    mirror = f"{servers[1].url}/status:404"
    fetch(source(f"{server.url}/good/y"), destination, mirror, False, LIMITS, TOKEN)
    assert authorizations(server) == [f"Bearer {TOKEN}"]
    assert authorizations(servers[1]) == [None]


@pytest.mark.parametrize(
    "path", ["good", "drop:60000", "status:404", "redirect_to:ftp", "status:503:0", "not_http"]
)
def test_password_of_a_mirror_is_sent_but_not_shown(server, destination, path):
    try:
        shown = fetch(
            source(), destination, f"http://reader:{TOKEN}@{server.host}/{path}", False, LIMITS
        )
    except FetchError as error:
        shown = str(error)
    assert f"http://{server.host}/{path}" in shown
    assert TOKEN not in shown
    assert set(authorizations(server)) == {basic("reader", TOKEN)}


@pytest.mark.parametrize("path", ["good", "drop:60000", "hangs_up", "status:407"])
def test_proxy_of_the_environment_is_asked_and_its_password_not_shown(
    server, servers, destination, monkeypatch, path
):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", f"http://reader:{TOKEN}@{servers[1].host}")
    message = outcome(server, path, destination)
    assert (message is None) == (path in ("good", "drop:60000"))
    assert server.asked == []
    assert set(authorizations(servers[1], "Proxy-Authorization")) == {basic("reader", TOKEN)}
    servers[1].asked.clear()
    destination.unlink(missing_ok=True)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    outcome(server, path, destination)
    assert servers[1].asked == []
    assert set(authorizations(server, "Proxy-Authorization")) == {None}


def test_login_of_a_mirror_comes_from_the_environment(server, destination, monkeypatch):
    """And goes to the mirror alone."""
    monkeypatch.setenv("T2I_MIRROR_LOGIN", f"reader:{TOKEN}/@:")
    said = fetch(source(), destination, f"http://{server.host}/good", False, LIMITS)
    assert said == f"http://{server.host}/good/{NAME}"
    assert authorizations(server) == [basic("reader", f"{TOKEN}/@:")]
    destination.unlink()
    server.asked.clear()
    fetch(source(f"{server.url}/good/y"), destination, None, False, LIMITS)
    assert authorizations(server) == [None]


def test_proxy_is_not_told_the_mirrors_password_in_the_address(
    server, servers, destination, monkeypatch
):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", servers[1].url)
    mirror = f"http://reader:{TOKEN}@{server.host}/good"
    fetch(source(), destination, mirror, False, LIMITS)
    assert [asked.path for asked in servers[1].asked] == [f"/good/{NAME}"]


def test_proxy_that_is_not_there_is_an_error_without_its_password(
    server, servers, destination, monkeypatch
):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", f"http://reader:{TOKEN}@127.0.0.1:9")
    assert "no connection, 3 times in a row" in outcome(server, "good", destination)


def certificate(folder):
    """A new certificate of 127.0.0.1, and a file that holds it together with its key."""
    alone, both = folder / "certificate.pem", folder / "server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=t2i", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command.split(), *names, "-keyout", both, "-out", alone], check=True, capture_output=True
    )
    both.write_bytes(both.read_bytes() + alone.read_bytes())
    return alone, both


def test_https_is_verified_and_never_left(server, destination, tmp_path, monkeypatch):
    alone, both = certificate(tmp_path)
    with running(both) as secure:
        assert "TLS: " in outcome(secure, "good", destination)
        assert not secure.asked
        monkeypatch.setenv("SSL_CERT_FILE", str(alone))
        assert outcome(secure, "drop:60000", destination) is None
        assert authorizations(secure) == [f"Bearer {TOKEN}"] * 6
        destination.unlink()
        secure.addresses["plain"] = f"{server.url}/good/x?signature={TOKEN}"
        message = outcome(secure, "redirect_to:plain", destination)
        assert f"redirects to {server.url}/good/x, not to https; refused" in message
        assert server.asked == []
        server.addresses["secure"] = f"{secure.url}/good/x"
        assert outcome(server, "redirect_to:secure", destination) is None
        assert authorizations(secure)[-1] is None


@pytest.mark.parametrize(
    "location, target",
    [
        ("https://b.example/y?q=1", "https://b.example/y?q=1"),
        ("//b.example/y", "https://b.example/y"),
        ("/y", "https://a.example/y"),
        ("y", "https://a.example/deep/y"),
        ("?page=2", "https://a.example/deep/x?page=2"),
    ],
)
def test_redirect_is_followed_where_https_stays(location, target):
    assert redirected("https://a.example/deep/x", location) == target


@pytest.mark.parametrize(
    "location", ["http://b.example/x", "HTTP://a.example/x", "ftp://b.example/x", "file:///etc/x"]
)
def test_redirect_that_leaves_https_is_refused(location):
    with pytest.raises(TransferError, match=r"redirects to .*, not to https; refused"):
        redirected("https://a.example/x", location)
