import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fake_loadgen import SIDE, image_of, set_detail, set_summary
from fake_submission import build_submission
from forgeries import FORGERIES, other_pixels
from t2i.base.check import FAIL
from t2i.base.files import read_json
from t2i.compliance.logged import check_log
from t2i.compliance.rules import RULES
from t2i.loadgen.accuracy_log import accuracy_text
from t2i.submission.checks.mending import LOADGEN_RULES, advice
from t2i.submission.checks.run import RUN_RULES, Run, run_checks
from t2i.submission.official import run_checker
from t2i.submission.tree import build_tree, recorded_request
from t2i.submission.verdict import Expected, check_tree
from tampering import CASES as CHANGES
from tampering import Case

CASES = (*CHANGES, *FORGERIES)

COUNT = 5000
LOG_PIXELS = "submission.Offline.TEST01.accuracy.log.pixels"
IMAGE_BYTES = SIDE * SIDE * 3


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> tuple[Path, Expected]:
    root = tmp_path_factory.mktemp("submission")
    return root, build_submission(root)


@pytest.fixture
def tree(good, tmp_path) -> Path:
    return shutil.copytree(good[0] / "tree", tmp_path / "tree")


def failed(tree: Path, expected: Expected) -> set[str]:
    return {check.id for check in check_tree(tree, expected) if check.verdict == FAIL}


def test_good_tree_passes(good):
    root, expected = good
    assert not failed(root / "tree", expected)


def test_cases_are_many_and_named_once():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 125


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_tampering_is_noticed(case: Case, good, tree):
    """With all that is known of the run, of the tree alone as documented, and beside the run."""
    case.change(tree)
    assert case.check in failed(tree, good[1])
    _, seen, _ = documented()[case.name]
    alone = failed(tree, replace(good[1], images=None, logs=None, metrics=None))
    assert (f"submission.{seen}" in alone) if seen != "nothing" else not alone
    built = read_json(good[0] / "submission_files.json")
    (of_run,) = (rule for rule in RUN_RULES if rule.what == "run.files")
    assert not of_run.find(Run(tree, good[0] / "loadgen", built)).ok


def beside_run(root: Path, tree: Path) -> set[str]:
    """What fails of a tree beside the run in the folder `root`."""
    built = read_json(root / "submission_files.json")
    checks = run_checks(tree, root / "loadgen", built)
    return {check.id for check in checks if check.verdict == FAIL}


def test_good_tree_passes_beside_its_run(good):
    assert not beside_run(good[0], good[0] / "tree")


@pytest.fixture
def run(good, tmp_path) -> Path:
    """A copy of the run and its tree."""
    return shutil.copytree(good[0], tmp_path / "run")


@pytest.mark.parametrize(
    ("path", "check"),
    [
        ("Offline/performance/mlperf_log_detail.txt", "originals"),
        ("SingleStream/TEST01/mlperf_log_summary.txt", "originals"),
        ("Offline/performance/user.conf", "originals"),
        ("Offline/accuracy/mlperf_log_accuracy.json", "originals"),
        ("Offline/scores/accuracy.txt", "scores"),
        ("Offline/scores/mlperf_log_accuracy.json", "scores"),
        ("Offline/audits/TEST01/verify_accuracy.txt", "audits"),
        ("Offline/audits/TEST04/verify_performance.txt", "audits"),
    ],
)
def test_a_run_that_was_edited_with_its_tree(run, path, check):
    """The tree is built again of an edited run, so that both agree."""
    edited = run / "loadgen" / path
    edited.write_text(edited.read_text().replace("1", "2", 1) + "\n")
    request = recorded_request(read_json(run / "submission_files.json")["request"])
    files = build_tree(run / "tree", run / "loadgen", request)
    built = {**read_json(run / "submission_files.json"), "files": files}
    checks = run_checks(run / "tree", run / "loadgen", built)
    assert f"submission.run.{check}" in {c.id for c in checks if c.verdict == FAIL}


@pytest.mark.parametrize(("clip", "passes"), [(31.6, True), (32.5, False)])
def test_part_iii_decides_where_images_of_test01_differ(good, tree, clip, passes):
    """An engine that is not deterministic: other pixels, whose scores have to be about the same."""
    other_pixels(tree)
    folder = tree / "closed/acme/results/my-box/stable-diffusion-xl/Offline/TEST01"
    text = folder / "verify_accuracy.txt"
    text.write_text(text.read_text().replace("TEST PASS", "TEST FAIL"))
    assert {"submission.Offline.TEST01.images", LOG_PIXELS} <= failed(tree, good[1])
    for name, score in (("baseline", 31.5), ("compliance", clip)):
        (folder / f"accuracy/{name}_accuracy.txt").write_text(accuracy_text(99.0, score, "a" * 64))
    found = failed(tree, good[1])
    assert ("submission.Offline.TEST01.images" not in found) == passes
    assert LOG_PIXELS not in found


def test_each_finding_says_why_and_what_to_do(good, tree):
    (tree / "closed/acme/results/my-box/stable-diffusion-xl/Offline/user.conf").write_text("a\n")
    name = "submission.Offline.performance.conf"
    (finding,) = [check for check in check_tree(tree, good[1]) if check.id == name]
    assert finding.why and finding.mend and "user.conf" in finding.value


def test_every_rule_has_a_reason_and_a_mend(good, older):
    for root, expected in (good, older):
        checks = check_tree(root / "tree", expected)
        checks += run_checks(
            root / "tree", root / "loadgen", read_json(root / "submission_files.json")
        )
        without = {c.id for c in checks if advice(c.id) == LOADGEN_RULES}
        known = tuple(f".{rule.what}" for rule in RULES)
        assert {name for name in without if not name.endswith(known)} == set()


@pytest.fixture(scope="module")
def older(tmp_path_factory) -> tuple[Path, Expected]:
    root = tmp_path_factory.mktemp("older")
    return root, build_submission(root, "v5.1", "datacenter,edge")


def test_good_tree_of_an_older_round_passes(older):
    root, expected = older
    assert not failed(root / "tree", expected)


@pytest.mark.parametrize(
    "label, key, value, check",
    [
        ("target_latency (ns)", "effective_target_latency_ns", 20_000_000_001, "latency_limit"),
        (
            "99.00 percentile latency (ns)",
            "result_99.00_percentile_latency_ns",
            2**40,
            "latency_met",
        ),
        ("min_duration (ms)", "effective_min_duration_ms", 0, "min_duration"),
        ("qsl_rng_seed", "effective_qsl_rng_seed", 2085463073848966840, "seeds.qsl"),
    ],
)
def test_server_run_of_an_older_round(older, tmp_path, label, key, value, check):
    tree = shutil.copytree(older[0] / "tree", tmp_path / "tree")
    run = tree / "closed/acme/results/my-box/stable-diffusion-xl/Server/performance/run_1"
    set_detail(run / "mlperf_log_detail.txt", key, value)
    set_summary(run / "mlperf_log_summary.txt", label, str(value))
    assert f"submission.Server.performance.{check}" in failed(tree, older[1])


@pytest.mark.parametrize(
    "folder, check",
    [
        ("compliance/my-box/stable-diffusion-xl/Server/TEST01", "submission.files.missing"),
        ("measurements/my-box/stable-diffusion-xl/Server", "submission.files.missing"),
        ("code", "submission.source"),
    ],
)
def test_folders_of_an_older_round(older, tmp_path, folder, check):
    tree = shutil.copytree(older[0] / "tree", tmp_path / "tree")
    shutil.rmtree(tree / "closed/acme" / folder)
    assert check in failed(tree, older[1])


def log_lines(good) -> list[str]:
    path = good[0] / "loadgen/Offline/accuracy/mlperf_log_accuracy.json"
    return path.read_text().splitlines(keepends=True)


def log_failures(path: Path, lines: list[str], sha256: str | None = None) -> set[str]:
    path.write_text("".join(lines))
    checks = check_log(path, COUNT, IMAGE_BYTES, sha256)
    return {check.id for check in checks if check.verdict == FAIL}


def test_whole_log_passes(good, tmp_path):
    assert not log_failures(tmp_path / "log", log_lines(good), good[1].logs["Offline"])


def test_whole_log_with_an_index_twice(good, tmp_path):
    lines = log_lines(good)
    start = lines[1].index('"data"')
    other = lines[1][:start] + lines[2][lines[2].index('"data"') :]
    assert log_failures(tmp_path / "log", [*lines[:2], other, *lines[2:]]) == {"log.twice"}


def test_whole_log_without_an_index(good, tmp_path):
    lines = log_lines(good)
    assert log_failures(tmp_path / "log", lines[:1] + lines[2:]) == {"log.missing"}


def test_whole_log_with_a_short_line(good, tmp_path):
    lines = log_lines(good)
    lines[1] = lines[1].replace('" },', "").rstrip()[:-40] + '" },\n'
    assert "log.bytes" in log_failures(tmp_path / "log", lines)


def test_whole_log_with_another_image(good, tmp_path):
    lines = log_lines(good)
    start = lines[1].index('"data" : "') + len('"data" : "')
    pixels = image_of(0).tobytes().hex().upper()
    lines[1] = lines[1][:start] + pixels + '" },\n'
    found = log_failures(tmp_path / "log", lines, good[1].logs["Offline"])
    assert found == {"log.sha256"}


# The official checker is given so long for a tree; it opens a pipe and waits.
CHECKER_SECONDS = 30.0
DOCUMENTED = Path(__file__).parents[2] / "docs/forgeries.md"


def official_verdict(checkout, tree: Path, round_name: str, work: Path) -> str:
    """What MLPerf's checker makes of a tree."""
    work.mkdir()
    official = run_checker(checkout, tree, round_name, work, CHECKER_SECONDS)
    assert official["state"] == "run"
    if official["ok"]:
        return "passes"
    if official["exit"] is None:
        return "hangs"
    crashed = any(message["level"] == "crash" for message in official["messages"])
    return "breaks off" if crashed else "refused"


def test_official_checker_takes_good_trees(real, good, older, tmp_path):
    assert official_verdict(real, good[0] / "tree", "v6.1", tmp_path / "new") == "passes"
    assert official_verdict(real, older[0] / "tree", "v5.1", tmp_path / "old") == "passes"


def documented() -> dict[str, list[str]]:
    """The rows of the table of forgeries by case: beside the run, the tree alone, official."""
    rows = {}
    for line in DOCUMENTED.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[0] not in ("case", "---"):
            rows[cells[0]] = cells[1:]
    return rows


def test_every_forgery_is_documented_as_it_is_judged():
    """That each is so is what the tests above show."""
    rows = documented()
    assert list(rows) == [case.name for case in CASES]
    for beside, _, official in rows.values():
        assert beside == "run.files"
        assert official in ("passes", "refused", "breaks off", "hangs")


@pytest.mark.slow
def test_the_official_verdicts_are_as_documented(real, good, tmp_path):
    found = {}
    for number, case in enumerate(CASES):
        tree = shutil.copytree(good[0] / "tree", tmp_path / str(number))
        case.change(tree)
        found[case.name] = official_verdict(real, tree, "v6.1", tmp_path / f"{number}-work")
        shutil.rmtree(tree)
    print("\n".join(f"{name}: {verdict}" for name, verdict in found.items()))
    assert found == {name: cells[2] for name, cells in documented().items()}
