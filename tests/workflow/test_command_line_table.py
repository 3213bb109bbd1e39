"""The tables of other projects' options: every key that they name is a key of the schema."""

import re

import pytest

from t2i.base.yaml import read_yaml
from workflow_run import PROJECT

SCHEMA = read_yaml(PROJECT / "config/schemas/config.schema.yaml")
# Of text_to_image/main.py at b66003e1 of mlcommons/inference.
REFERENCE = [
    "--dataset",
    "--dataset-path",
    "--profile",
    "--scenario",
    "--max-batchsize",
    "--threads",
    "--accuracy",
    "--find-peak-performance",
    "--backend",
    "--model-name",
    "--output",
    "--qps",
    "--model-path",
    "--dtype",
    "--device",
    "--latent-framework",
    "--user_conf",
    "--audit_conf",
    "--ids-path",
    "--time",
    "--count",
    "--debug",
    "--performance-sample-count",
    "--max-latency",
    "--samples-per-query",
]
ROW = re.compile(r"^\| (`(?:--|_).*?) \| (.*?) \| (.*?) ?\|$", re.M)


def rows() -> list[tuple[list[str], list[str]]]:
    """Options and keys of each row of the tables."""
    text = (PROJECT / "docs/loadgen.md").read_text(encoding="utf-8")
    return [tuple(re.findall(r"`([^`]+)`", cell) for cell in row[:2]) for row in ROW.findall(text)]


def known(path: str) -> bool:
    place = SCHEMA
    for step in path.split("."):
        properties = place.get("properties", {})
        place = properties.get(step) or (
            place.get("additionalProperties") if step == "NAME" else None
        )
        if not isinstance(place, dict):
            return False
    return True


def test_the_tables_are_there():
    assert len(rows()) >= 45


@pytest.mark.parametrize("key", sorted({key for _, keys in rows() for key in keys}))
def test_each_key_is_one_of_the_schema(key):
    assert known(key), key


def test_an_unknown_key_would_be_noticed():
    assert known("variants.NAME.dtype") and known("loadgen.qps")
    assert not known("loadgen.qpz") and not known("variants.dtype")


def test_every_option_of_the_reference_has_a_row():
    named = {option for options, _ in rows() for option in options}
    assert set(REFERENCE) <= named


def test_the_options_are_those_of_the_reference_itself(inference_checkout):
    script = (inference_checkout / "text_to_image/main.py").read_text(encoding="utf-8")
    script = re.sub(r"^\s*#.*$", "", script, flags=re.M)
    found = re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", script)
    assert sorted(set(found)) == sorted(REFERENCE)
