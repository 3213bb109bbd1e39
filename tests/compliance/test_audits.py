"""TEST01 and TEST04: ours find every byte and every rule, and the official scripts are heard."""

import json
import shutil
from pathlib import Path

import pytest

from fake_checkout import write_checkout
from fake_loadgen import DETAIL, LOG, add_error, set_detail, set_summary, write_run
from t2i.base.check import FAIL, NOT_APPLICABLE, PASS
from t2i.base.files import read_json, sha256_file
from t2i.compliance import audits
from t2i.compliance.audit_images import compare_images, expected_images
from t2i.compliance.checkout import open_checkout
from t2i.loadgen.logs import read_detail

RATE = 17.0
SUMMARY = "mlperf_log_summary.txt"
# LoadGen's queries a second of the target latency, on which TEST01's sampling depends.
TARGET = {"SingleStream": RATE, "MultiStream": RATE / 8}
VERIFY = {"TEST01": audits.verify_test01, "TEST04": audits.verify_test04}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes the runs of a scenario once."""
    folders = {}

    def make(scenario):
        if scenario not in folders:
            folders[scenario] = tmp_path_factory.mktemp(scenario)
            for mode in ("performance", "accuracy", "TEST01", "TEST04"):
                folder = write_run(folders[scenario] / mode, scenario, mode, rate=RATE, side=4)
                if scenario in TARGET and mode != "accuracy":
                    set_detail(folder / DETAIL, "effective_target_qps", TARGET[scenario])
        return folders[scenario]

    return make


@pytest.fixture
def runs(made, tmp_path):
    """Runs of Offline that a test may change, below a folder with a blank in its name."""
    return copied(made, tmp_path, "Offline")


def copied(made, tmp_path, scenario):
    unread = shutil.ignore_patterns("mlperf_log_trace.json", "latencies.npy")
    return Path(shutil.copytree(made(scenario), tmp_path / "of a run" / scenario, ignore=unread))


def verify(runs, test, checkout=None, shortened=False, scenario="Offline"):
    """The audit, and its checks that did not pass as {last part of the id: verdict}."""
    folder = runs / "audits" / test
    audit = VERIFY[test](scenario, runs, folder, checkout, shortened)
    assert read_json(folder / "audit.json") == audit
    prefix = f"audit.{scenario}.{test}."
    verdicts = {check["id"].removeprefix(prefix): check["verdict"] for check in audit["checks"]}
    assert len(verdicts) == len(audit["checks"])
    return audit, {name: verdict for name, verdict in verdicts.items() if verdict != PASS}


def value(audit, what):
    return next(check["value"] for check in audit["checks"] if check["id"].endswith(f".{what}"))


def words(runs, test, name):
    return (runs / "audits" / test / f"verify_{name}.txt").read_text()


def records(path):
    return json.loads(path.read_text())


def change_image(log, place, byte):
    """Flip one byte of the image of a record, and return the record's index."""
    entries = records(log)
    data = bytearray.fromhex(entries[place]["data"])
    data[byte] ^= 1
    entries[place]["data"] = data.hex().upper()
    lines = (
        f'{{ "seq_id" : {e["seq_id"]}, "qsl_idx" : {e["qsl_idx"]}, "data" : "{e["data"]}" }}'
        for e in entries
    )
    log.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    return entries[place]["qsl_idx"]


@pytest.mark.parametrize("scenario", ["Offline", "SingleStream", "MultiStream", "Server"])
def test_sound_runs_pass_in_every_scenario(made, tmp_path, scenario):
    runs = copied(made, tmp_path, scenario)
    for test in VERIFY:
        audit, rest = verify(runs, test, scenario=scenario)
        assert (audit["verdict"], rest) == (PASS, {"official": NOT_APPLICABLE})
        assert (audit["test"], audit["scenario"], audit["schema"]) == (test, scenario, 1)
        assert audit["official"]["why"] in value(audit, "official")
        lines = words(runs, test, "performance").splitlines()
        assert "TEST PASS" in lines and lines[0] == audits.OUR_WORDS


def test_the_folder_holds_what_a_tree_needs(runs):
    verify(runs, "TEST01")
    folder = runs / "audits/TEST01"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    wanted = {"audit.json", "verify_accuracy.txt", "verify_performance.txt"}
    assert names == wanted | {f"accuracy/{LOG}", "accuracy/accuracy.txt"}
    log = runs / "TEST01" / LOG
    assert (folder / "accuracy/accuracy.txt").read_text() == f"\nhash={sha256_file(log)}\n"
    shown = (folder / "accuracy" / LOG).read_bytes()
    assert shown == log.read_bytes()[:4096] + b"\n\n...\n\n" + log.read_bytes()[-4096:]
    verify(runs, "TEST04")
    assert {path.name for path in (runs / "audits/TEST04").iterdir()} == {
        "audit.json",
        "verify_performance.txt",
    }


@pytest.mark.parametrize("mode, byte", [("accuracy", 1), ("TEST01", 0), ("TEST01", 47)])
def test_one_differing_byte_fails(runs, mode, byte):
    place = 7
    if mode == "accuracy":
        wanted = records(runs / "TEST01" / LOG)[7]["qsl_idx"]
        indices = [entry["qsl_idx"] for entry in records(runs / mode / LOG)]
        place = indices.index(wanted)
    index = change_image(runs / mode / LOG, place, byte)
    audit, rest = verify(runs, "TEST01")
    assert rest == {"images": FAIL, "official": NOT_APPLICABLE}
    assert f"1 differ: samples {index};" in value(audit, "images")
    assert "part III" in value(audit, "images")
    assert words(runs, "TEST01", "accuracy").splitlines()[-1] == "TEST FAIL"
    assert "TEST PASS" not in words(runs, "TEST01", "accuracy")
    assert "TEST PASS" in words(runs, "TEST01", "performance")


def test_an_image_without_counterpart_and_an_empty_log_fail(runs):
    log = runs / "accuracy" / LOG
    index = records(runs / "TEST01" / LOG)[0]["qsl_idx"]
    lines = [line for line in log.read_text().splitlines() if f'"qsl_idx" : {index},' not in line]
    log.write_text("\n".join(lines) + "\n")
    audit, rest = verify(runs, "TEST01")
    assert rest["images"] == FAIL
    assert f"1 are not in the accuracy run's log: samples {index};" in value(audit, "images")
    (runs / "TEST01" / LOG).write_text("[\n]\n")
    audit, rest = verify(runs, "TEST01")
    assert (rest["images"], rest["logged"]) == (FAIL, FAIL)
    assert "no image was logged" in value(audit, "images")


def test_a_damaged_log_fails(runs):
    log = runs / "TEST01" / LOG
    log.write_bytes(log.read_bytes()[:-1000])
    audit, rest = verify(runs, "TEST01")
    assert rest["log"] == FAIL
    assert "cut off" in value(audit, "log")


def test_the_same_sample_logged_twice_must_be_equal_twice(runs):
    log = runs / "TEST01" / LOG
    entries = records(log)
    first = entries[0]
    log.write_text(json.dumps([*entries, first]))
    assert "images" not in verify(runs, "TEST01")[1]
    other = {**first, "data": "00" + first["data"][2:] if first["data"][:2] != "00" else "01"}
    log.write_text(json.dumps([*entries, other]))
    audit, rest = verify(runs, "TEST01")
    assert rest["images"] == FAIL
    assert f"samples {first['qsl_idx']};" in value(audit, "images")


def test_the_extract_holds_the_records_of_the_logged_samples(runs, tmp_path):
    whole, test = runs / "accuracy" / LOG, runs / "TEST01" / LOG
    compare_images(whole, test, tmp_path / "extract.json")
    wanted = {entry["qsl_idx"] for entry in records(test)}
    expected = [entry for entry in records(whole) if entry["qsl_idx"] in wanted]
    assert records(tmp_path / "extract.json") == expected
    test.write_text("[\n]\n")
    compare_images(whole, test, tmp_path / "extract.json")
    assert records(tmp_path / "extract.json") == []


SETTINGS = [
    ("TEST01", "TEST01", "effective_accuracy_log_rng_seed", 0, "seed"),
    ("TEST01", "TEST01", "effective_accuracy_log_sampling_target", 5000, "target"),
    ("TEST01", "TEST01", "effective_test_mode", "AccuracyOnly", "mode"),
    ("TEST01", "performance", "effective_performance_issue_same", True, "reference"),
    ("TEST01", "performance", "effective_accuracy_log_sampling_target", 128, "reference"),
    ("TEST01", "TEST01", "effective_samples_per_query", 4999, "samples"),
    ("TEST01", "TEST01", "result_validity", "INVALID", "valid"),
    ("TEST01", "performance", "result_validity", "INVALID", "valid"),
    ("TEST04", "TEST04", "effective_performance_issue_same", False, "same"),
    ("TEST04", "TEST04", "effective_performance_issue_unique", True, "same"),
    ("TEST04", "TEST04", "effective_performance_issue_same_index", 4, "same"),
    ("TEST04", "TEST04", "effective_samples_per_query", 500, "samples"),
    ("TEST04", "TEST04", "effective_scenario", "Server", "mode"),
    ("TEST04", "performance", "result_validity", "INVALID", "valid"),
]


@pytest.mark.parametrize("test, mode, key, wrong, check", SETTINGS)
def test_a_wrong_setting_or_result_fails(runs, test, mode, key, wrong, check):
    set_detail(runs / mode / DETAIL, key, wrong)
    audit, rest = verify(runs, test)
    assert (audit["verdict"], rest[check]) == (FAIL, FAIL)
    passes = check not in ("valid", "errors")
    assert ("TEST PASS" in words(runs, test, "performance")) == passes


@pytest.mark.parametrize("mode", ["performance", "TEST04"])
def test_an_error_of_loadgen_fails(runs, mode):
    add_error(runs / mode / DETAIL, "Multiple conf files are used.")
    audit, rest = verify(runs, "TEST04")
    assert rest == {"errors": FAIL, "official": NOT_APPLICABLE}
    assert value(audit, "errors") == f"{mode}: Multiple conf files are used."


@pytest.mark.parametrize(
    "scenario, speed, verdicts",
    [
        ("Offline", 1.099, (PASS, PASS)),
        ("Offline", 1.101, (FAIL, FAIL)),
        ("Offline", 0.901, (PASS, PASS)),
        ("Offline", 0.899, (FAIL, PASS)),
        ("SingleStream", 1.09, (PASS, PASS)),
        ("SingleStream", 1.12, (FAIL, FAIL)),
        ("SingleStream", 0.85, (FAIL, PASS)),
        ("Server", 1.12, (FAIL, FAIL)),
        ("Server", 0.85, (FAIL, PASS)),
    ],
)
def test_speed_within_a_tenth(made, tmp_path, scenario, speed, verdicts):
    runs = copied(made, tmp_path, scenario)
    key, of_latency = {
        "Offline": ("result_samples_per_second", False),
        "SingleStream": ("early_stopping_latency_ss", True),
        "Server": ("result_completed_samples_per_sec", False),
    }[scenario]
    reference = read_detail(runs / "performance" / DETAIL).get(key)
    for test, verdict in zip(VERIFY, verdicts, strict=True):
        set_detail(
            runs / test / DETAIL, key, reference / speed if of_latency else reference * speed
        )
        audit, rest = verify(runs, test, scenario=scenario)
        assert rest.get("performance", PASS) == verdict
        check = next(c for c in audit["checks"] if c["id"].endswith("performance"))
        assert (check["margin"] >= 0) == (verdict == PASS)
        assert ("TEST PASS" in words(runs, test, "performance")) == (verdict == PASS)


def test_another_latency_limit_of_server_fails(made, tmp_path):
    runs = copied(made, tmp_path, "Server")
    set_detail(runs / "TEST01" / DETAIL, "effective_target_latency_ns", 10**10)
    assert verify(runs, "TEST01", scenario="Server")[1]["latency"] == FAIL


def test_short_runs_are_not_asked_for_official_sample_counts(runs):
    set_detail(runs / "TEST04" / DETAIL, "effective_samples_per_query", 128)
    set_detail(runs / "TEST04" / DETAIL, "result_samples_per_second", 0)
    assert verify(runs, "TEST04")[1]["performance"] == FAIL
    audit, rest = verify(runs, "TEST04", shortened=True)
    assert (rest["samples"], rest["performance"]) == (NOT_APPLICABLE, NOT_APPLICABLE)
    assert "has no figure" in value(audit, "performance")
    assert "TEST PASS" not in words(runs, "TEST04", "performance")


@pytest.mark.parametrize("logged", [70, 186])
def test_too_few_or_too_many_images_fail(runs, logged):
    log = runs / "TEST01" / LOG
    log.write_text(json.dumps((records(log) * 3)[:logged]))
    audit, rest = verify(runs, "TEST01")
    assert (rest["logged"], value(audit, "logged")) == (FAIL, logged)


def test_expected_images_are_those_of_published_submissions(real):
    folder = real.path / "tools/submission/directory_structure_samples/sample_1/closed/AMD/results"
    found = sorted(folder.glob("*/stable-diffusion-xl/*/TEST01"))
    if not found:
        pytest.skip("the checkout has no sample tree")
    for test in found:
        low, high = expected_images(read_detail(test / "performance/run_1" / DETAIL))
        (line,) = (
            line
            for line in (test / "verify_accuracy.txt").read_text().splitlines()
            if line.startswith("num_perf_log_entries")
        )
        assert low <= int(line.split(" = ")[1]) <= high


def test_scripts_of_a_checkout_write_the_folder(runs, tmp_path):
    checkout = open_checkout(write_checkout(tmp_path / "its own"))
    for test in VERIFY:
        audit, rest = verify(runs, test, checkout)
        assert (audit["official"]["state"], rest) == ("run", {})
        assert words(runs, test, "performance") == "TEST PASS\nof the fake script\n"
    size = (runs / "accuracy" / LOG).stat().st_size
    assert words(runs, "TEST01", "accuracy").startswith(f"{size}\n")
    set_detail(runs / "TEST04" / DETAIL, "result_validity", "INVALID")
    audit, rest = verify(runs, "TEST04", checkout)
    assert (rest["official"], audit["official"]["verdict"]) == (FAIL, FAIL)
    assert "error" in [entry["level"] for entry in audit["official"]["messages"]]


def test_a_log_beyond_the_memory_is_cut_down_for_the_script(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(audits, "WHOLE_LOG", 1000)
    checkout = open_checkout(write_checkout(tmp_path / "checkout"))
    audit, rest = verify(runs, "TEST01", checkout)
    assert rest == {}
    size = int(words(runs, "TEST01", "accuracy").splitlines()[0])
    assert size < (runs / "accuracy" / LOG).stat().st_size / 10
    assert "cut down" in " ".join(entry["text"] for entry in audit["official"]["messages"])
    assert not (runs / "audits/TEST01/extract.json").exists()


def test_scripts_that_break_off_fail_and_ours_are_written(runs, tmp_path):
    folder = write_checkout(tmp_path / "checkout")
    (folder / "compliance/TEST04/run_verification.py").write_text("raise MemoryError")
    audit, rest = verify(runs, "TEST04", open_checkout(folder))
    assert rest == {"official": FAIL}
    assert audit["official"]["messages"][-1]["level"] == "crash"
    assert words(runs, "TEST04", "performance").startswith(audits.OUR_WORDS)


def test_the_real_scripts_agree_on_sound_runs(runs, real, monkeypatch):
    for test in VERIFY:
        audit, rest = verify(runs, test, real)
        assert (audit["official"]["verdict"], rest) == (PASS, {})
        assert audits.OUR_WORDS not in words(runs, test, "performance")
    whole = words(runs, "TEST01", "accuracy")
    assert "num_acc_log_entries = 5000" in whole
    monkeypatch.setattr(audits, "WHOLE_LOG", 1000)
    assert verify(runs, "TEST01", real)[1] == {}
    rest = words(runs, "TEST01", "accuracy").splitlines()[4:]
    assert rest == whole.splitlines()[4:]


def test_the_real_script_sees_the_first_byte_alone(runs, real):
    change_image(runs / "TEST01" / LOG, 7, 1)
    audit, rest = verify(runs, "TEST01", real)
    assert rest == {"images": FAIL}
    assert (audit["official"]["verdict"], audit["verdict"]) == (PASS, FAIL)
    assert "TEST PASS" in words(runs, "TEST01", "accuracy")
    change_image(runs / "TEST01" / LOG, 7, 0)
    audit, rest = verify(runs, "TEST01", real)
    assert rest == {"images": FAIL, "official": FAIL}
    text = " ".join(entry["meaning"] for entry in audit["official"]["messages"])
    assert "differ from the accuracy run's in their first byte" in text
    assert "TEST PASS" not in words(runs, "TEST01", "accuracy")


def test_the_real_scripts_agree_on_speed_and_validity(runs, real):
    reference = read_detail(runs / "performance" / DETAIL).get("result_samples_per_second")
    for speed, verdict in ((1.09, None), (1.11, FAIL)):
        for test in VERIFY:
            figure = reference * speed
            set_detail(runs / test / DETAIL, "result_samples_per_second", figure)
            set_summary(runs / test / SUMMARY, "Samples per second", str(figure))
            rest = verify(runs, test, real)[1]
            assert (rest.get("performance"), rest.get("official")) == (verdict, verdict)
    add_error(runs / "performance" / DETAIL, "Multiple conf files are used.")
    set_detail(runs / "performance" / DETAIL, "num_errors", 1)
    audit, rest = verify(runs, "TEST01", real)
    assert rest["official"] == FAIL
    text = " ".join(entry["mend"] for entry in audit["official"]["messages"])
    assert "audit.config must be read by LoadGen alone" in text


def test_the_real_script_allows_singlestream_twice_as_much(made, tmp_path, real):
    """Its limit of 0.2 ms is meant in nanoseconds, and compared with queries a second."""
    runs = copied(made, tmp_path, "SingleStream")
    latency = read_detail(runs / "performance" / DETAIL).get("early_stopping_latency_ss") / 1.15
    set_detail(runs / "TEST04" / DETAIL, "early_stopping_latency_ss", int(latency))
    summary = runs / "TEST04" / SUMMARY
    lines = [
        line.split(":")[0] + f": {int(latency)}" if "90.0th percentile estimate" in line else line
        for line in summary.read_text().splitlines()
    ]
    summary.write_text("\n".join(lines) + "\n")
    audit, rest = verify(runs, "TEST04", real, scenario="SingleStream")
    assert (rest, audit["official"]["verdict"]) == ({"performance": FAIL}, PASS)
