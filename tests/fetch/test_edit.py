"""The table of inputs: well formed, and equal to what is published."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from t2i.base.embedded import CLIP, MODEL
from t2i.base.files import file_digest
from t2i.base.yaml import read_yaml
from t2i.fetch.table import read_sources

ROOT = Path(__file__).parents[2]
TABLE = read_yaml(ROOT / "config" / "sources.yaml")
SHA256 = "0123456789abcdef" * 4
GOOD = {"licence": "CC0", "address": "https://a.example/{path}", "files": {"x": {"sha256": SHA256}}}


def test_entry_takes_the_groups_address_or_its_own():
    files = {
        "a": {"sha256": SHA256},
        "b": {"sha256": SHA256, "path": "deep/b.bin"},
        "c": {"sha256": SHA256, "address": "file:c"},
    }
    sources = read_sources({"group": {**GOOD, "files": files}})
    assert [entry.address for entry in sources.values()] == [
        "https://a.example/a",
        "https://a.example/deep/b.bin",
        "file:c",
    ]


@pytest.mark.parametrize(
    "facts, words",
    [
        ({}, "give one of the digests sha256, sha512, git_blob, md5"),
        ({"size": 3}, "give one of the digests"),
        ({"sha256": "ab"}, "sha256 is 'ab'; expected 64 lower-case hex digits"),
        ({"sha256": SHA256.upper()}, "expected 64 lower-case hex digits"),
        ({"md5": 12345678901234567890123456789012}, "expected 32 lower-case hex digits, in quotes"),
        ({"sha256": SHA256, "size": "3"}, "size is '3'; expected a number of bytes"),
        ({"sha256": SHA256, "address": None}, "address None, path 'file.bin'; expected texts"),
        ({"sha256": SHA256, "size": -1}, "size is -1"),
        ({"sha256": SHA256, "size": True}, "size is True"),
    ],
)
def test_malformed_entry_is_named(facts, words):
    with pytest.raises(ValueError) as caught:
        read_sources({"good": GOOD, "group": {**GOOD, "files": {"file.bin": facts}}})
    heading, line = str(caught.value).splitlines()
    assert heading == "the table of inputs cannot be used:"
    assert line.startswith("  group/file.bin: ")
    assert words in line


def test_token_is_the_name_of_a_variable_not_the_secret():
    table = {"group": {**GOOD, "token": "HF_TOKEN"}, "other": GOOD}
    assert [entry.token for entry in read_sources(table).values()] == ["HF_TOKEN", None]
    with pytest.raises(ValueError, match="group: token is 'hf_abc'; expected a variable's name"):
        read_sources({"group": {**GOOD, "token": "hf_abc"}})


@pytest.mark.parametrize("name", ["../x", "a/../../x"])
def test_names_stay_below_resources(name):
    with pytest.raises(ValueError, match="the name leaves resources/"):
        read_sources({"group": {**GOOD, "files": {name: {"sha256": SHA256}}}})


@pytest.mark.parametrize(
    "table", [None, [], "x", {"g": None}, {"g": {"files": {}}}, {"g": {**GOOD, "files": ["x"]}}]
)
def test_something_that_is_no_table_is_refused(table):
    with pytest.raises(ValueError, match="expected groups with licence and files"):
        read_sources(table)


def test_all_malformed_entries_are_told_at_once():
    with pytest.raises(ValueError) as caught:
        read_sources({"a": None, "b": {**GOOD, "files": {"x": {}, "y": {"md5": "1"}}}})
    assert len(str(caught.value).splitlines()) == 4


def test_shipped_files_have_the_size_and_digest_of_the_table():
    local = [entry for entry in read_sources(TABLE).values() if entry.address.startswith("file:")]
    assert len(local) == 6 + 22
    for entry in local:
        path = ROOT / entry.address.removeprefix("file:")
        assert path.stat().st_size == entry.size, entry.name
        assert file_digest(path, entry.algorithm) == entry.digest, entry.name


# MLPerf Training names these by the newest revision and by sha256 (its scripts/checkpoints).
OF_TRAINING = {
    "stable-diffusion-2-base/512-base-ema.ckpt": "d635794c1fedfdfa261e065370bea59c"
    "651fc9bfa65dc6d67ad29e11869a1824",
    "clip-vit-h-14/open_clip_pytorch_model.bin": "9a78ef8e8c73fd0df621682e7a8e8eb3"
    "6c6916cb3c16b291a082ecd52ab79cc4",
}


def test_the_trainings_checkpoints_have_their_published_digests():
    sources = read_sources(TABLE)
    for name, digest in OF_TRAINING.items():
        assert (sources[name].algorithm, sources[name].digest) == ("sha256", digest)


def test_every_other_address_is_https_and_pinned():
    for entry in read_sources(TABLE).values():
        if not entry.address.startswith("file:"):
            assert entry.address.startswith("https://"), entry.name
            moving = re.search(r"/(main|master|latest)/", entry.address)
            assert not moving or entry.name in OF_TRAINING, entry.name
        assert entry.licence


def published(shared_data):
    """Digests of the reference table by file name or path, as (algorithm, digest, size)."""
    reference = yaml.safe_load((shared_data / "sources.yaml").read_text())
    facts = {}
    for group in ("sdxl_base_1_0", "mlcommons_inference"):
        for path, entry in reference[group]["files"].items():
            if isinstance(entry, list):
                facts[path] = ("sha256", entry[1], entry[0])
            else:
                facts[path] = ("git_blob", entry["git_blob"], None)
    for entry in (reference["metrics"]["inception"], reference["metrics"]["clip_vit_b_32_openai"]):
        facts[entry["url"]] = ("sha256", entry["sha256"], entry.get("size"))
    for address, entry in reference["coco2014"]["files"].items():
        algorithm = "sha256" if "sha256" in entry else "md5"
        facts[address.rpartition("/")[2]] = (algorithm, entry[algorithm], None)
    return facts


def test_table_agrees_with_the_reference_table(shared_data):
    facts = published(shared_data)
    for group, entry in TABLE.items():
        if group in (MODEL, CLIP):
            continue  # the project's own
        for file, own in entry["files"].items():
            if f"{group}/{file}" in OF_TRAINING:
                continue
            key = own.get("path", own.get("address", file))
            if key.startswith("file:") or key.endswith("/{path}"):
                key = file
            algorithm, digest, size = facts[key]
            assert own[algorithm] == digest, f"{group}/{file}"
            assert own.get("size") == size, f"{group}/{file}"


def test_addresses_agree_with_the_reference_table(shared_data):
    reference = yaml.safe_load((shared_data / "sources.yaml").read_text())
    for group, name in (("coco2014", "mlcommons_inference"), ("sdxl-base-1.0", "sdxl_base_1_0")):
        entry = reference[name]
        address = entry["url"].replace("{revision}", entry["revision"])
        assert TABLE[group]["address"] == address.replace("{hub}", entry.get("hub", ""))


@pytest.fixture
def shipped(tmp_path):
    """A project's folder with a table and two small models, one of them pinned before."""
    files = {
        "models/micro-sdxl/unet/config.json": b"{}",
        "models/micro-sdxl/model_index.json": b"of the model",
        "models/micro-sdxl/reference_images/00001.png": b"no input",
        "models/micro-clip/model.safetensors": b"of the scorer",
        "models/README.md": b"no input",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/sources.yaml").write_text(ONE_PINNED)
    return tmp_path


ONE_PINNED = """\
# A comment: of all.
first:   # kept as it is
  licence:   "CC0"
  files: {x: {sha256: "0"}}
micro-sdxl:
  licence: none
  # an old comment of the group goes
  files:
    gone.json: {size: 1, sha256: 2}
# A comment of what follows.

last:
  licence: 'CC0'
"""


def test_models_are_pinned_in_their_own_place_and_nowhere_else(shipped):
    command = [sys.executable, ROOT / "tools/pin_models.py"]
    subprocess.run(command, cwd=shipped, check=True)
    path = shipped / "config/sources.yaml"
    head, _, rest = path.read_text().partition("micro-sdxl:\n")
    assert head == ONE_PINNED.partition("micro-sdxl:\n")[0]
    group, comment, rest = rest.partition("# A comment of what follows.\n")
    tail = ONE_PINNED[ONE_PINNED.index(comment) :]
    assert (comment + rest).startswith(f"{tail}micro-clip:\n")
    digest = hashlib.sha256(b"{}").hexdigest()
    assert group.splitlines()[-1] == f"    unet/config.json: {{size: 2, sha256: {digest}}}"
    table = {name: entry for name, entry in read_yaml(path).items() if name.startswith("micro")}
    sources = read_sources(table)
    assert list(sources) == [
        "micro-sdxl/model_index.json",
        "micro-sdxl/unet/config.json",
        "micro-clip/model.safetensors",
    ]
    for name, source in sources.items():
        assert source.address == f"file:models/{name}"
        assert source.size == (shipped / "models" / name).stat().st_size
        assert source.digest == file_digest(shipped / "models" / name, "sha256")
        assert source.licence.startswith("Apache-2.0")
    once = path.read_bytes()
    subprocess.run(command, cwd=shipped, check=True)
    assert path.read_bytes() == once


def test_the_table_of_the_project_is_what_pinning_writes(tmp_path):
    path = tmp_path / "sources.yaml"
    path.write_bytes((ROOT / "config/sources.yaml").read_bytes())
    subprocess.run([sys.executable, "tools/pin_models.py", "--table", path], cwd=ROOT, check=True)
    assert path.read_bytes() == (ROOT / "config/sources.yaml").read_bytes()


def test_a_missing_model_is_not_pinned(shipped):
    shutil.rmtree(shipped / "models/micro-clip")
    command = [sys.executable, ROOT / "tools/pin_models.py"]
    done = subprocess.run(command, cwd=shipped, capture_output=True, text=True)
    assert done.returncode != 0
    assert "models/micro-clip: no files to pin" in done.stderr
    assert (shipped / "config/sources.yaml").read_text() == ONE_PINNED
