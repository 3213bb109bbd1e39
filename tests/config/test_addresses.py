"""Addresses with secrets in them are refused before anything can store them."""

import pytest

from t2i.config.addresses import address_mistakes, has_secret

SECRET = "s3cret"


@pytest.mark.parametrize(
    "address",
    [
        f"http://reader:{SECRET}@host/folder",
        f"https://{SECRET}@host",
        f"https://host/x?token={SECRET}",
        f"https://host/x?a=1&X-Amz-Signature={SECRET}",
        f"https://host/x?Key={SECRET}#part",
        f"https://host/x?api-key={SECRET}",
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_shown(address: str) -> None:
    assert has_secret(address)
    (line,) = address_mistakes({"mirror": address}, {})
    assert line.startswith("  mirror: http") and "T2I_MIRROR_LOGIN" in line
    assert SECRET not in line
    table = {"own": {"address": address, "files": {"a": {"address": address}, "b": {}}}}
    lines = list(address_mistakes({"mirror": None}, table))
    assert [line.split(": http")[0] for line in lines] == [
        "  sources: own.address",
        "  sources: own.files.a.address",
    ]
    assert not any(SECRET in line for line in lines)


@pytest.mark.parametrize(
    "address",
    [
        "mirror",
        "/srv/a@b/mirror",
        "file:/srv/mirror",
        "https://host/a@b?download=true&keyboard=1",
        "https://host/{path}",
        "http://[::1",
    ],
)
def test_other_addresses_are_not(address: str) -> None:
    assert not has_secret(address)
    assert list(address_mistakes({"mirror": address}, {})) == []
