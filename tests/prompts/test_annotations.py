"""Captions out of COCO's annotations: as pandas makes the file, and nothing that is malformed."""

import json
import stat
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from t2i.base.files import sha256_bytes, sha256_file
from t2i.prompts import annotations, captions
from workflow_run import Workplace, copy_project, table_with

MEMBER = annotations.VALIDATION
COLUMNS = ["id", "image_id", "caption", "height", "width", "file_name", "coco_url"]
SIGNS = "ab \"'\t\n\r\\,;#\x00\x1cé字😀"
CAPTIONS = st.text(alphabet=SIGNS, max_size=12) | st.sampled_from(
    ['A "red" star.\n', "\r\n two\r\ndogs \r\n", '"', '""', "\ta\t", " \n ", "1.5", "é"]
)


def coco_file(texts: list[str], seed: int) -> dict[str, Any]:
    """Annotations in COCO's form with these captions: shuffled ids, several captions an image."""
    draw = np.random.default_rng(seed)
    numbers = draw.permutation(2 * len(texts))[: 1 + len(texts) // 2]
    images = [
        {
            "license": 1,
            "file_name": f"COCO_val2014_{number:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/val2014/COCO_val2014_{number:012d}.jpg",
            "height": int(draw.integers(1, 640)),
            "width": int(draw.integers(1, 640)),
            "id": int(number),
        }
        for number in numbers
    ]
    entries = [
        {"image_id": int(image), "id": int(number), "caption": text}
        for image, number, text in zip(
            draw.choice(numbers, len(texts)), draw.permutation(10**6)[: len(texts)], texts,
            strict=True,
        )
    ]  # fmt: skip
    return {"info": {}, "images": images, "annotations": entries}


def as_bytes(table: pd.DataFrame, images: list[dict[str, Any]]) -> bytes:
    """What pandas writes for chosen annotations: cleaned, beside their images, sorted by id."""
    table = table.assign(caption=[text.replace("\n", "").strip() for text in table["caption"]])
    facts = pd.DataFrame(images).rename(columns={"id": "image_id"})
    rows = table.merge(facts, on="image_id").sort_values("id")
    return rows[COLUMNS].to_csv(sep="\t", index=False).encode()


def sampled_by_pandas(content: dict[str, Any], count: int) -> bytes:
    """captions.tsv by the published steps, in pandas alone."""
    table = pd.DataFrame(content["annotations"]).drop_duplicates("image_id").sort_values("id")
    table = table.sample(frac=1, random_state=2023).iloc[:count]
    return as_bytes(table, content["images"])


def chosen_by_pandas(content: dict[str, Any], ids: list[int]) -> bytes:
    """The calibration captions by the published steps, in pandas alone."""
    table = pd.DataFrame(content["annotations"])
    return as_bytes(table[table["id"].isin(ids)], content["images"])


def zipped(path: Path, members: dict[str, Any], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip whose files hold JSON."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, json.dumps(content))
    return path


@settings(deadline=None, max_examples=30)
@given(
    texts=st.lists(CAPTIONS, min_size=1, max_size=60),
    seed=st.integers(0, 10**6),
    count=st.integers(1, 60),
)
def test_sampled_captions_are_pandas_byte_for_byte(tmp_path_factory, texts, seed, count):
    content = coco_file(texts, seed)
    folder = tmp_path_factory.mktemp("annotations")
    table = annotations.read_annotations(zipped(folder / "x.zip", {MEMBER: content}), MEMBER)
    rows = captions.sample_captions(**table, count=count)
    written = captions.format_captions(rows).encode()
    (folder / "captions.tsv").write_bytes(written)
    assert captions.read_captions(folder / "captions.tsv") == rows
    if b"\r" not in written:  # which pandas writes without quotes, and nobody reads then
        assert written == sampled_by_pandas(content, count)
        back = pd.read_csv(
            folder / "captions.tsv", sep="\t", dtype={"caption": str}, keep_default_na=False
        )
        assert back["caption"].tolist() == [row.caption for row in rows]


@settings(deadline=None, max_examples=15)
@given(texts=st.lists(CAPTIONS, min_size=1, max_size=40), seed=st.integers(0, 10**6))
def test_calibration_captions_are_pandas_byte_for_byte(texts, seed):
    content = coco_file(texts, seed)
    draw = np.random.default_rng(seed)
    every = [entry["id"] for entry in content["annotations"]]
    ids = draw.permutation(every)[: draw.integers(1, len(every) + 1)].tolist()
    rows = captions.calibration_captions(content["annotations"], content["images"], ids)
    written = captions.format_captions(rows).encode()
    assert b"\r" in written or written == chosen_by_pandas(content, ids)


def test_a_file_as_large_as_cocos_is_sampled_as_by_pandas():
    texts = [f"caption {number}\n" for number in range(20_000)]
    content = coco_file(texts, seed=1)
    rows = captions.sample_captions(content["annotations"], content["images"])
    assert len(rows) == captions.DATASET_SIZE
    assert captions.format_captions(rows).encode() == sampled_by_pandas(content, 5000)


def test_missing_calibration_captions_are_all_named():
    content = coco_file(["one", "two", "three"], seed=2)
    first, second, third = (entry["id"] for entry in content["annotations"])
    content["annotations"][2]["image_id"] = -1  # an image that is not in the file
    ids = [first, second, third, 10**6, 10**6 + 1]
    with pytest.raises(ValueError) as caught:
        captions.calibration_captions(content["annotations"], content["images"], ids)
    message = str(caught.value)
    assert message.startswith("3 of 5 calibration captions are not among the annotations")
    assert message.endswith(f": {third}, 1000000, 1000001")


@pytest.mark.shared
def test_published_calibration_ids(shared_data):
    path = shared_data / "coco2014" / "coco_cal_captions_list.txt"
    ids = captions.read_sample_ids(path, "a caption id")
    assert ids == [int(line) for line in path.read_text().splitlines()]
    assert (len(ids), ids[:3]) == (500, [282, 655, 1919])


def test_captions_with_another_digest_are_refused():
    text = captions.format_captions([])
    digest = "0" * 64
    done = subprocess.run(["sha256sum"], input=text.encode(), capture_output=True, check=True)
    right = done.stdout.split()[0].decode()
    captions.verify_captions(text, right)
    with pytest.raises(ValueError, match=f"sha256 {right}.*{digest}"):
        captions.verify_captions(text, digest)


@pytest.mark.parametrize("name", ["captions.json", "captions.zip"])
def test_what_is_read_is_what_cocos_own_reader_reads(tmp_path, name):
    content = coco_file(["one", "é\n", "three"], seed=3)
    plain = tmp_path / "captions.json"
    plain.write_text(json.dumps(content))
    path = zipped(tmp_path / name, {MEMBER: content}) if name.endswith("zip") else plain
    member = MEMBER if name.endswith("zip") else None
    expected = COCO(plain).dataset
    found = annotations.read_annotations(path, member)
    assert found == {part: expected[part] for part in ("annotations", "images")}


def test_nothing_is_unpacked(tmp_path):
    path = zipped(tmp_path / "x.zip", {MEMBER: coco_file(["one"], 4), "other": [1]})
    annotations.read_annotations(path, MEMBER)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.zip"]


def twice(path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(MEMBER, "{}")


def another(path: Path) -> None:
    zipped(path, {"annotations/captions_train2014.json": {}})


def link(path: Path) -> None:
    entry = zipfile.ZipInfo(MEMBER)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, "/etc/hostname")


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b'"one"') + 1] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def encrypted(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", data, data.index(header) + offset, 1)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (twice, "the zip has 2 files with that name"),
        (another, "the zip has 0 files with that name"),
        (link, "not a plain file"),
        (flipped, "damaged or unreadable \\(Bad CRC-32"),
        (cut, "damaged or unreadable \\(File is not a zip file"),
        (encrypted, "damaged or unreadable .*encrypted"),
    ],
)
def test_a_wrong_zip_is_refused(tmp_path, change, words):
    content = coco_file(["one"], 5)
    path = zipped(tmp_path / "x.zip", {MEMBER: content}, zipfile.ZIP_STORED)
    assert annotations.read_annotations(path, MEMBER)
    change(path)
    with pytest.raises(annotations.AnnotationsError, match=f"x.zip, {MEMBER}: {words}"):
        annotations.read_annotations(path, MEMBER)


def test_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x.zip", {MEMBER: coco_file(["one"] * 99, 6)})
    monkeypatch.setattr(annotations, "MAX_BYTES", 5000)
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    with pytest.raises(annotations.AnnotationsError, match="bytes exceed the limit of 5000"):
        annotations.read_annotations(path, MEMBER)


def wrong(part: str, **change: Any) -> str:
    """A caption file one of whose entries is changed; a key with the value ... is taken out."""
    content = coco_file(["one", "two"], 7)
    entry = content[part][1]
    entry.update(change)
    content[part][1] = {key: value for key, value in entry.items() if value is not ...}
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[" * 10**5, "not valid JSON"),
        ("\xff", "not valid JSON"),
        ("[]", "expected an object with the lists"),
        ("{}", "expected a list 'annotations' that is not empty"),
        ('{"annotations": []}', "expected a list 'annotations' that is not empty"),
        ('{"annotations": [7]}', "annotations\\[0\\]: expected an object, got 7"),
        (wrong("images", file_name=...), "images\\[1\\]: expected file_name to be text, got None"),
        (wrong("images", height=1.5), "images\\[1\\]: expected height to be a whole number"),
        (wrong("annotations", id=True), "annotations\\[1\\]: expected id to be a whole number"),
        (wrong("annotations", caption=5), "annotations\\[1\\]: expected caption to be text, got 5"),
        (wrong("annotations", caption="\ud800"), "annotations\\[1\\]: caption holds half"),
    ],
)
def test_malformed_content_is_located(tmp_path, text, words):
    path = tmp_path / "captions.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(annotations.AnnotationsError, match=f"captions.json: {words}"):
        annotations.read_annotations(path)


@pytest.mark.parametrize("part", ["annotations", "images"])
def test_an_id_that_stands_twice_is_refused(tmp_path, part):
    content = coco_file(["one", "two"], 8)
    content[part].append(content[part][0])
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(annotations.AnnotationsError, match=rf"{part}\[2\]: duplicate id "):
        annotations.read_annotations(tmp_path / "x.json")


@pytest.mark.slow
def test_rules_make_both_files_and_demand_the_published_digest(tmp_path):
    place = Workplace(copy_project(tmp_path / "project"))
    contents = {
        annotations.VALIDATION: coco_file(["one\n", 'a "b"', "three", "four"], 9),
        annotations.TRAINING: coco_file([f"caption {number}" for number in range(9)], 10),
    }
    expected = sampled_by_pandas(contents[annotations.VALIDATION], 5000)
    ids = [entry["id"] for entry in contents[annotations.TRAINING]["annotations"][2:7]]
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    zipped(inputs / "annotations_trainval2014.zip", contents)
    (inputs / "coco_cal_captions_list.txt").write_text("".join(f"{number}\n" for number in ids))
    for name in ("latents.npy", "sample_ids.txt"):
        (inputs / name).write_text("not needed here\n")
    files = {path.name: {"sha256": sha256_file(path)} for path in inputs.iterdir()}
    files["captions_source.tsv"] = {"sha256": sha256_bytes(expected)}
    group = {"licence": "CC0", "address": f"file:{inputs}/{{path}}", "files": files}
    (place.folder / "sources.yaml").write_text(table_with(mine=group))
    overlay = {"dataset": "mine", "captions": "annotations", "sources": "sources.yaml"}

    target = "resources/mine/captions.tsv"
    place.snakemake(target, "sample_calibration_captions", overlay=overlay)
    assert (place.folder / target).read_bytes() == expected
    made = (place.folder / "resources/mine/calibration_captions.tsv").read_bytes()
    assert made == chosen_by_pandas(contents[annotations.TRAINING], ids)

    files["captions_source.tsv"]["sha256"] = "0" * 64
    (place.folder / "sources.yaml").write_text(table_with(mine=group))
    output = place.snakemake(target, overlay=overlay, succeeds=False)
    assert f"have sha256 {sha256_bytes(expected)}, the published ones {'0' * 64}" in output
