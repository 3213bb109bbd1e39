"""Requests over HTTP as downloads need them: redirects that are not trusted, tokens that stay.

Nothing here is retried and no body is read: t2i.fetch.transfer does both.
"""

from __future__ import annotations

import base64
import urllib.request
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3.util import make_headers, parse_url

from t2i.base.addresses import shown

REDIRECTS = (301, 302, 303, 307, 308)
LONGEST_CHAIN = 10
PORTS = {"http": 80, "https": 443}
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class TransferError(RuntimeError):
    """A file could not be fetched from an address, and asking again would not help."""


def redirected(address: str, location: str | None) -> str:
    """Where a redirect leads; raises TransferError where it must not be followed.

    From https only https is allowed, and nothing ever leads to a file or another protocol.
    """
    if not location:
        raise TransferError(f"{shown(address)} redirects without a target")
    try:
        target = urljoin(address, location)
        scheme = urlsplit(target).scheme
    except ValueError as error:
        raise TransferError(f"{shown(address)} redirects to an invalid address") from error
    allowed = ("https",) if urlsplit(address).scheme == "https" else ("http", "https")
    if scheme not in allowed:
        raise TransferError(
            f"{shown(address)} redirects to {shown(target)}, not to {' or '.join(allowed)}; refused"
        )
    return target


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)


def _authorization(address: str, first: str, token: str | None) -> dict[str, str]:
    """The header that proves who asks: only for the host it is meant for, never in the clear."""
    if _origin(address) != _origin(first):
        return {}
    parts = urlsplit(first)
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}
    if token and (parts.scheme == "https" or parts.hostname in LOOPBACK):
        return {"Authorization": f"Bearer {token}"}
    return {}


class HttpClient:
    """Keeps connections open between requests; safe to use from many threads.

    `silence` is the longest wait for a connection or a byte in seconds, `connections` how many
    to one host are kept. Proxies are those of the environment (http_proxy, https_proxy, no_proxy).
    """

    def __init__(self, silence: float, connections: int = 1) -> None:
        self._options: dict[str, Any] = {
            "maxsize": connections,
            "timeout": urllib3.Timeout(connect=silence, read=silence),
            "retries": False,
        }
        self._proxies = urllib.request.getproxies()
        self._pools: dict[str | None, urllib3.PoolManager] = {None: self._pool(None)}
        for proxy in {self._proxies.get(scheme) for scheme in PORTS} - {None}:
            self._pools[proxy] = self._pool(proxy)

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools.values():
            pool.clear()

    def _pool(self, proxy: str | None) -> urllib3.PoolManager:
        if proxy is None:
            return urllib3.PoolManager(**self._options)
        secret = parse_url(proxy).auth
        headers = make_headers(proxy_basic_auth=unquote(secret)) if secret else None
        return urllib3.ProxyManager(proxy, proxy_headers=headers, **self._options)

    def _proxy(self, address: str) -> str | None:
        parts = urlsplit(address)
        proxy = self._proxies.get(parts.scheme)
        if proxy and urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
            return None
        return proxy

    def open(
        self, address: str, headers: dict[str, str], token: str | None = None
    ) -> urllib3.BaseHTTPResponse:
        """The answer to a GET, redirects followed, its body not read yet; the caller closes it.

        Raises TransferError for a redirect that must not be followed, or too many of them, and
        urllib3's HTTPError where there is no answer.
        """
        first = address
        headers = {"User-Agent": "t2i-bench", "Accept-Encoding": "identity", **headers}
        for _ in range(LONGEST_CHAIN):
            try:
                response = self._pools[self._proxy(address)].urlopen(
                    "GET",
                    parse_url(address)._replace(auth=None).url,
                    headers=headers | _authorization(address, first, token),
                    preload_content=False,
                    redirect=False,
                )
            except ValueError as error:  # of urllib or urllib3
                raise TransferError(f"{shown(address)} is not an address") from error
            if response.status not in REDIRECTS:
                return response
            location = response.headers.get("Location")
            response.close()
            address = redirected(address, location)
        raise TransferError(f"{shown(first)} redirects more than {LONGEST_CHAIN} times")
