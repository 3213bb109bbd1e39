"""The accuracy log's reader: LoadGen's own files, damage of every kind, memory, truncation."""

import json
import os
import random
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy_logs import Records, log_text
from t2i.base.check import FAIL, NOT_APPLICABLE, PASS
from t2i.base.files import sha256_bytes, sha256_file
from t2i.compliance.logged import check_log
from t2i.loadgen import accuracy_log
from t2i.loadgen.accuracy_log import AccuracyLog, Entry, read_log, truncate

SCRIPTS = Path(__file__).parents[2] / "scripts"
SIZE = 12  # bytes of an image


def image(index: int, size: int = SIZE) -> bytes:
    """The raw answer for an index, unlike that for any other."""
    return random.Random(index).randbytes(size)


def sound(indices: Sequence[int]) -> bytes:
    """A log of the images of these indices."""
    return log_text([(index, image(index)) for index in indices])


def failed(path: Path, count: int, size: int = SIZE) -> dict[str, str]:
    """The failed checks of a log with their values."""
    checks = check_log(path, count, size)
    return {check.id: check.value for check in checks if check.verdict == FAIL}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mlperf_log_accuracy.json"


LOADGEN = """
import sys
import numpy as np
import mlperf_loadgen as lg

def issue(samples):
    for sample in samples:
        data = np.frombuffer(bytes.fromhex(sys.argv[3 + sample.index]), np.uint8).copy()
        response = lg.QuerySampleResponse(sample.id, data.ctypes.data, data.size)
        lg.QuerySamplesComplete([response])

settings = lg.TestSettings()
settings.scenario = getattr(lg.TestScenario, sys.argv[2])
settings.mode = lg.TestMode.AccuracyOnly
settings.multi_stream_samples_per_query = 4
count = len(sys.argv) - 3
sut = lg.ConstructSUT(issue, lambda: None)
qsl = lg.ConstructQSL(count, count, lambda indices: None, lambda indices: None)
outputs = lg.LogOutputSettings()
outputs.outdir = sys.argv[1]
logging = lg.LogSettings()
logging.log_output = outputs
lg.StartTestWithLogSettings(sut, qsl, settings, logging)
"""


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Offline"])
def test_a_log_that_loadgen_wrote(path: Path, scenario: str) -> None:
    images = [image(index) for index in range(6)]
    arguments = [str(path.parent), scenario, *(data.hex() for data in images)]
    subprocess.run([sys.executable, "-c", LOADGEN, *arguments], check=True, capture_output=True)
    padded = scenario == "MultiStream"  # its second query of four has two samples left
    log = AccuracyLog(path, SIZE, len(images), repeats=padded)
    found = {entry.qsl_idx: entry.data for entry in log.verified()}
    assert found == dict(enumerate(images))
    assert log.repeats == (2 if padded else 0)
    assert bool(failed(path, len(images))) == padded
    if scenario == "Offline":  # the form that these tests give their logs
        order = [entry.qsl_idx for entry in read_log(path)]
        seeds = [entry.seq_id for entry in read_log(path)]
        assert seeds == list(range(6))
        assert path.read_bytes() == sound(order)


def test_entries_are_what_json_reads(path: Path) -> None:
    text = sound([2, 0, 1])
    path.write_bytes(text)
    expected = [
        Entry(
            number,
            text.index(b'{ "seq_id" : %d,' % number),
            record["seq_id"],
            record["qsl_idx"],
            bytes.fromhex(record["data"]),
            sha256_bytes(bytes.fromhex(record["data"])),
        )
        for number, record in enumerate(json.loads(text))
    ]
    assert list(read_log(path, SIZE)) == expected
    log = AccuracyLog(path, SIZE, 3)
    assert list(log.entries()) == expected
    assert (log.sha256, log.size, log.records) == (sha256_file(path), len(text), 3)


@pytest.mark.parametrize("indent", [None, 0, 4])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\r\n\t", " : ")])
def test_any_spacing_and_order_of_keys(
    path: Path, indent: int | None, separators: tuple[str, str]
) -> None:
    records = [
        {"data": image(1).hex(), "token_count": 0, "qsl_idx": 1, "seq_id": 7},
        {"seq_id": 0, "qsl_idx": 0, "data": image(0).hex().upper()},
    ]
    path.write_text(json.dumps(records, indent=indent, separators=separators))
    found = [(entry.seq_id, entry.qsl_idx, entry.data) for entry in read_log(path, SIZE)]
    assert found == [(7, 1, image(1)), (0, 0, image(0))]


def test_checks_of_a_sound_log(path: Path) -> None:
    path.write_bytes(sound([1, 0]))
    digest = sha256_file(path)
    checks = check_log(path, 2, SIZE, digest, "accuracy.Offline.log")
    names = ("json", "hex", "bytes", "twice", "missing", "beyond", "sha256")
    assert [check.id for check in checks] == [f"accuracy.Offline.log.{name}" for name in names]
    assert {check.verdict for check in checks} == {PASS}
    assert check_log(path, 2, SIZE)[-1].verdict == NOT_APPLICABLE
    changed = check_log(path, 2, SIZE, "0" * 64)[-1]
    assert changed.verdict == FAIL
    assert changed.value == f"{digest}, expected {'0' * 64}"


FIRST, SECOND = sound([0, 1]).index(b"{"), sound([0, 1]).rindex(b"{")
WRONG = sound([0, 1]).index(image(0).hex().upper().encode()) + 1
DAMAGES = {
    "no list": (b"[", b" ", "log.json", "byte 0: expected [ before record 0, found b''"),
    "no end": (b"\n]\n", b"\n", "log.json", "expected ] at the end, the log is cut off, found b''"),
    "no comma": (b"},", b"}", "log.json", "expected , before record 1, found b''"),
    "garbage": (b"},", b"},\0\0", "log.json", r"before record 1, found b',\x00\x00'"),
    "cut at the end": (b'" }\n]\n', b"", "log.json", f"record 1 at byte {SECOND} is cut off: the"),
    "cut line": (b'" },\n', b"\n", "log.json", f"cut off: another one begins at byte {SECOND - 4}"),
    "open string": (b'" },', b" },", "log.json", f'record 0 at byte {FIRST} has no "data"'),
    "no data": (b'"data"', b'"date"', "log.json", 'has no "data" between quotation marks'),
    "no index": (b'"qsl_idx"', b'"qsl_idy"', "log.json", "expected seq_id, qsl_idx and data"),
    "a number of text": (b" : 1, ", b' : "1", ', "log.json", "expected seq_id, qsl_idx and"),
    "an index below 0": (
        b'"qsl_idx" : 0',
        b'"qsl_idx" : -1',
        "log.json",
        "expected seq_id, qsl_idx and data",
    ),
    "true": (b" : 1, ", b" : true, ", "log.json", "expected seq_id, qsl_idx and data"),
    "a key twice": (b'"seq_id" : 0', b'"qsl_idx" : 0, "seq_id" : 0', "log.json", "is not LoadGen"),
    "another key": (b'"qsl_idx"', b'"size" : 0, "qsl_idx"', "log.json", "is not LoadGen's"),
    "no JSON": (b'"qsl_idx" : 0,', b'"qsl_idx" : 0,,', "log.json", "is not JSON ("),
    "not UTF-8": (b'"qsl_idx" : 0,', b'"qsl_idx\xff" : 0,', "log.json", "is not JSON ("),
    "nested": (b" : 0, ", b" : " + b"[" * 9999 + b", ", "log.json", "record 0 at byte 2 is"),
    "no hex": (
        image(0).hex().upper().encode()[:2],
        b"0g",
        "log.hex",
        f"no hex digit at byte {WRONG}",
    ),
    "odd": (image(0).hex().upper().encode()[:2], b"0", "log.hex", "odd number of hex digits (23)"),
    "short": (image(0).hex().upper().encode()[:2], b"", "log.bytes", "0: 11 bytes, expected 12"),
    "long": (image(0).hex().upper().encode()[:2], b"0000", "log.bytes", "13 bytes, expected 12"),
    "beyond": (b'"qsl_idx" : 1,', b'"qsl_idx" : 2,', "log.beyond", "index 2 is beyond the 2 sa"),
    "twice": (b'"qsl_idx" : 1,', b'"qsl_idx" : 0,', "log.twice", "0 again, with other pixels than"),
    "missing": (b'"qsl_idx" : 1,', b'"qsl_idx" : 0,', "log.missing", "1 of 2 samples have no"),
    "empty": (sound([0, 1]), b"", "log.json", "byte 0: expected [] at the end"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_with_its_place(path: Path, name: str) -> None:
    old, new, check, value = DAMAGES[name]
    whole = sound([0, 1])
    assert old in whole
    path.write_bytes(whole.replace(old, new, 1))
    assert value in failed(path, 2)[check]
    with pytest.raises(ValueError, match="run LoadGen's accuracy mode again") as caught:
        list(AccuracyLog(path, SIZE, 2).verified())
    assert value in str(caught.value)
    assert str(path) in str(caught.value)


def test_no_work_is_done_after_a_wrong_record(path: Path) -> None:
    records = [(0, image(0)), (1, b"short"), (2, image(2))]
    path.write_bytes(log_text(records))
    yielded = []
    with pytest.raises(ValueError, match="5 bytes"):
        for entry in read_log(path, SIZE):
            yielded.append(entry.qsl_idx)
    assert yielded == [0]
    # Yet all that is wrong is listed, and the digest is that of the whole file.
    log = AccuracyLog(path, SIZE, 4)
    assert [entry.qsl_idx for entry in log.entries()] == [0, 2]
    assert [problem.kind for problem in log.problems] == ["bytes", "missing"]
    assert log.sha256 == sha256_file(path)


def test_the_first_of_equal_records_counts(path: Path) -> None:
    path.write_bytes(sound([1, 0, 1]))
    log = AccuracyLog(path, SIZE, 2, repeats=True)
    assert [entry.record for entry in log.verified()] == [0, 1]
    assert log.repeats == 1
    twice = {check.id: check for check in check_log(path, 2, SIZE, repeats=True)}["log.twice"]
    assert twice.verdict == PASS
    assert "1 of them repeat another's index and pixels" in twice.value
    assert [entry.qsl_idx for entry in read_log(path)] == [1, 0, 1]
    # In other scenarios each image is asked for exactly once.
    twice = {check.id: check for check in check_log(path, 2, SIZE)}["log.twice"]
    assert twice.verdict == FAIL
    assert "index 1 again, with the pixels of record 0" in twice.value


def test_an_empty_list_misses_everything(path: Path) -> None:
    path.write_bytes(b"[\n]\n")
    indices = "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."
    assert failed(path, 12) == {"log.missing": f"12 of 12 samples have no image: {indices}"}


def test_problems_are_not_listed_without_end(path: Path) -> None:
    path.write_bytes(b"{" * 100_000)
    log = AccuracyLog(path, SIZE, 2)
    assert not list(log.entries())
    assert len(log.problems) == accuracy_log.MOST_PROBLEMS
    assert log.records < accuracy_log.MOST_PROBLEMS  # no reading of records after that
    assert (log.sha256, log.size) == (sha256_file(path), 100_000)
    assert len(failed(path, 2)["log.json"]) < 1000


def read_in_pieces(path: Path, count: int, chunk: int) -> tuple[AccuracyLog, Records]:
    """A log that was read in pieces of a few bytes, and its records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy_log, "CHUNK", chunk)
        log = AccuracyLog(path, SIZE, count)
        return log, [(entry.qsl_idx, entry.data) for entry in log.entries()]


@settings(deadline=None)
@given(st.data(), st.integers(1, 200))
def test_any_damage_is_reported_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, chunk: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    whole = sound([2, 0, 1])
    start = data.draw(st.integers(0, len(whole)), "start")
    stop = data.draw(st.integers(start, min(start + 80, len(whole))), "stop")
    piece = st.one_of(
        st.binary(max_size=4),
        st.text('0F"{}[]:,\n ', max_size=4).map(str.encode),
        st.just(whole[start : start + 60]),
    )
    new = whole[:start] + data.draw(piece, "new") + whole[stop:]
    path.write_bytes(new)
    log, found = read_in_pieces(path, 3, chunk)
    assert (log.sha256, log.size) == (sha256_bytes(new), len(new))
    if not log.problems:
        parsed = json.loads(new)  # so it is JSON,
        first = {record["qsl_idx"]: record for record in reversed(parsed)}
        expected = {index: bytes.fromhex(record["data"]) for index, record in first.items()}
        assert dict(found) == expected
        assert sorted(expected) == [0, 1, 2]  # and has an image of the right size for all.
        assert {len(pixels) for pixels in expected.values()} == {SIZE}


@settings(deadline=None)
@given(st.permutations(range(5)), st.integers(1, 300))
def test_the_chunks_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], chunk: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "sound.json"
    path.write_bytes(sound(order))
    log, found = read_in_pieces(path, 5, chunk)
    assert not log.problems
    assert found == [(index, image(index)) for index in order]


MEASURED = """
import sys
from pathlib import Path
from t2i.loadgen.accuracy_log import AccuracyLog

def peak():  # of this program in kB; getrusage would count the process that started it
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])

log = AccuracyLog(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
before = peak()
entries = sum(1 for entry in log.entries())
print(entries, len(log.problems), (peak() - before) // 1024)
"""


@pytest.mark.parametrize("what", ["records", "one line", "no record"])
def test_memory_does_not_grow_with_the_file(path: Path, what: str) -> None:
    """75 MB of a log in at most 40 MB, whether it is sound, one endless line, or a hole."""
    size, count = 1_000_000, 37
    with path.open("wb") as file:
        if what == "records":
            file.write(log_text([(index, bytes(size)) for index in range(count)]))
        else:
            file.write(b"[" if what == "no record" else b'[\n{ "seq_id" : 0, "data" : "')
            for _ in range(75):
                file.write(bytes(size) if what == "no record" else b"A" * size)
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    arguments = [str(path), str(size), str(count)]
    printed = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    ).stdout
    entries, problems, grown = map(int, printed.split())
    assert grown < 40
    assert (entries, problems > 0) == ((count, False) if what == "records" else (0, True))


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8191, 8192, 9000, 100_000])
def test_truncated_as_the_rules_want(path: Path, tmp_path: Path, size: int) -> None:
    text = sound(range(2000))[:size]
    path.write_bytes(text)
    target = tmp_path / "scores/mlperf_log_accuracy.json"
    truncate(path, target)
    expected = text if size < 4096 else text[:4096] + b"\n\n...\n\n" + text[-4096:]
    assert target.read_bytes() == expected
    assert path.read_bytes() == text


@pytest.mark.parametrize("size", [0, 4095, 4096, 4097, 8192, 9000, 100_000])
def test_truncated_as_the_official_tool_does(
    inference_checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    accuracy = tmp_path / "tree/open/acme/results/box/stable-diffusion-xl/Offline/accuracy"
    accuracy.mkdir(parents=True)
    log, text = accuracy / "mlperf_log_accuracy.json", accuracy / "accuracy.txt"
    log.write_bytes(sound(range(2000))[:size])
    text.write_text("Accuracy Results: {}\n")
    digest = sha256_file(log)
    truncate(log, tmp_path / "ours")
    monkeypatch.chdir(tmp_path / "tree")
    tool = runpy.run_path(str(inference_checkout / "tools/submission/truncate_accuracy_log.py"))
    tool["truncate_results_dir"]("acme", str(tmp_path / "backup"), [])
    assert log.read_bytes() == (tmp_path / "ours").read_bytes()
    assert text.read_text() == "Accuracy Results: {}\n" + accuracy_log.hash_line(digest)
