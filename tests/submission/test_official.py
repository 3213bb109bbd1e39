"""What the official checker says is told as it is, explained, and never made better."""

import ast
import shutil
import subprocess
import sys

import pytest

from fake_checkout import write_checkout
from t2i.base.check import FAIL, NOT_APPLICABLE, PASS
from t2i.compliance.checkout import open_checkout
from t2i.compliance.messages import UNKNOWN, explain
from t2i.mlperf import ROUNDS
from t2i.submission import messages, official

STAMP = "[2026-08-20 10:00:00,123 main.py:5"
ACCEPTED = f"{STAMP} INFO] Results=1, NoResults=0, Power Results=0"
LOOKS_OK = f"{STAMP} INFO] SUMMARY: submission looks OK"
HAS_ERRORS = f"{STAMP} ERROR] SUMMARY: submission has errors"
TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "loader.py", line 330, in check_scenarios\n'
    "TypeError: 'NoneType' object is not iterable"
)
# Of other benchmarks, and of submissions that measure power.
FOREIGN = ("TTFT", "TPOT", "TEST06", "TEST07", "TEST08", "TEST09", "TEST 09", "use_token_latencies")


def run(tmp_path, answer, exit_status=0, **changes):
    """What a checker with this answer says of an empty tree with a blank in its name."""
    tree, work = tmp_path / "a tree", tmp_path / "work"
    tree.mkdir()
    work.mkdir()
    found = open_checkout(write_checkout(tmp_path / "a checkout", answer, exit_status))
    return official.run_checker(found, tree, "v6.1", work, **changes)


def levels(result):
    return [entry["level"] for entry in result["messages"]]


def judge(result):
    (check,) = official.official_checks(result)
    return check


def test_an_accepted_tree_passes(tmp_path):
    result = run(tmp_path, f"{ACCEPTED}\n{LOOKS_OK}")
    assert (result["state"], result["ok"], result["exit"], result["results"]) == ("run", True, 0, 1)
    assert (result["version"], result["commit"], result["why"]) == ("v6.1", None, "")
    assert (tmp_path / "work" / official.TABLE).read_text() == "v6.1"
    assert levels(result) == ["warning", "info", "info"]
    assert "no commit" in result["messages"][0]["text"]
    assert (judge(result).verdict, judge(result).value) == (PASS, "1 results accepted")


@pytest.mark.parametrize(
    "answer, exit_status, level, meaning",
    [
        (f"{ACCEPTED}\n{HAS_ERRORS}", 1, "error", "At least one result was refused."),
        (f"{ACCEPTED}\n{LOOKS_OK}", 1, None, None),
        (f"{ACCEPTED}\n{TRACEBACK}", 1, "crash", "no list of scenarios"),
        (ACCEPTED, 0, "crash", "stopped with an error"),
        ("", 0, "crash", "stopped with an error"),
        (LOOKS_OK, 0, "error", "empty tree OK"),
        (f"{ACCEPTED.replace('=1', '=0')}\n{LOOKS_OK}", 0, "error", "empty tree OK"),
        (f"{ACCEPTED}\nnot {LOOKS_OK}", 0, "crash", "stopped with an error"),
    ],
    ids=["errors", "status", "crash", "no summary", "silent", "no results", "0 results", "quoted"],
)
def test_anything_else_fails(tmp_path, answer, exit_status, level, meaning):
    result = run(tmp_path, answer, exit_status)
    assert (result["state"], result["ok"]) == ("run", False)
    assert judge(result).verdict == FAIL
    if level:
        assert result["messages"][-1]["level"] == level
        assert meaning in result["messages"][-1]["meaning"]
        assert result["messages"][-1]["text"].splitlines()[-1] in judge(result).value
    else:
        assert judge(result).value.endswith("the first: exit 1")


def test_a_hanging_checker_is_stopped_and_fails(tmp_path):
    result = run(tmp_path, f"{ACCEPTED}\n{LOOKS_OK}", seconds=0.01)
    assert (result["ok"], result["exit"], levels(result)[-1]) == (False, None, "crash")
    assert judge(result).verdict == FAIL


def test_not_run_is_not_passed():
    result = official.not_run("nobody gave a checkout", "v6.1")
    assert (result["state"], result["ok"], result["messages"]) == ("not run", None, [])
    assert (judge(result).verdict, judge(result).id) == (NOT_APPLICABLE, "submission.official")
    assert judge(result).value == "not run: nobody gave a checkout"


def test_both_objects_have_one_shape(tmp_path):
    assert run(tmp_path, "").keys() == official.not_run("why", "v6.1").keys()


def test_errors_that_loadgen_logged_are_told_as_its_own():
    lines = [
        f"{STAMP} INFO] All good",
        f"{STAMP} ERROR] a/b contains errors:",
        f"{STAMP} ERROR] Multiple conf files are used.",
        f"{STAMP} ERROR] Ran out of generated queries",
        f"{STAMP} ERROR] a/b has loadgen errors, number of errors: 2",
        "ERROR:main:something new",
        " * with a second line",
        "Traceback (most recent call last):",
        "  of a crash",
    ]
    entries, other = messages.parse("\n".join(["before", *lines]))
    assert other == "before\nTraceback (most recent call last):\n  of a crash"
    assert [entry["text"] for entry in entries][-1] == "something new\n * with a second line"
    explained = [(entry["meaning"], entry["mend"]) for entry in entries]
    error = messages.LOADGEN_ERROR
    assert explained[1:3] == [(error.meaning, error.mend)] * 2
    assert explained[4] == (UNKNOWN.meaning, UNKNOWN.mend)
    assert all(meaning for meaning, _ in explained)


def told(folder):
    """Formats of all errors and warnings that the checker's source can log."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("error", "warning")
                and isinstance(node.func.value, ast.Attribute | ast.Name)
            ):
                yield path.name, shown(node.args[0])


def shown(node):
    """A message as it comes out, with x in every place that is filled in."""
    if isinstance(node, ast.Constant):
        text = node.value
        for place in ("%s", "%d", "%f", "%.4f"):
            text = text.replace(place, "x")
        return text
    if isinstance(node, ast.JoinedStr):
        return "".join(shown(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return shown(node.left) + shown(node.right)
    return "x"


def test_every_message_of_the_real_checker_is_known(real):
    source = real.path / "tools/submission/submission_checker"
    found = [
        (name, text)
        for name, text in told(source)
        if name not in ("power_checker.py", "endpoints_parser.py")
        and not any(word in text for word in FOREIGN)
    ]
    assert len(found) > 60
    unknown = [
        (name, text)
        for name, text in found
        if explain("checker", text) is UNKNOWN
        and text not in ("x", "x Private id not cached for system x")
        and "Private id generated" not in text
    ]
    assert unknown == []


SAMPLE = "tools/submission/directory_structure_samples/sample_1"
SDXL = "closed/AMD/results/8xMI325x_2xEPYC-9655/stable-diffusion-xl"


@pytest.fixture
def sample(real, tmp_path):
    """The published tree in the checkout, with its SDXL results alone."""
    tree = tmp_path / "tree"
    system = "8xMI325x_2xEPYC-9655"
    if not (real.path / SAMPLE / SDXL).is_dir():
        pytest.skip("the checkout has no sample tree")
    shutil.copytree(real.path / SAMPLE / SDXL, tree / SDXL)
    for part in (f"systems/{system}.json", "src"):
        source, target = real.path / SAMPLE / "closed/AMD" / part, tree / "closed/AMD" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    return tree


@pytest.mark.parametrize("round_name", ROUNDS)
def test_the_real_checker_is_run_as_it_is(real, sample, tmp_path, round_name):
    """Verdict, status and messages are those of the plain command."""
    before = sorted(str(path) for path in real.path.rglob("*"))
    result = official.run_checker(real, sample, round_name, tmp_path)
    assert sorted(str(path) for path in real.path.rglob("*")) == before
    options = ["--input", sample, "--version", round_name, "--csv", tmp_path / "plain.csv"]
    plain = subprocess.run(
        [sys.executable, "-B", "-m", "submission_checker.main", *options],
        cwd=real.path / "tools/submission",
        capture_output=True,
        text=True,
    )
    assert (result["exit"], result["ok"]) == (plain.returncode, False)
    assert levels(result)[-1] == "crash"
    last = plain.stderr.strip().splitlines()[-1]
    assert result["messages"][-1]["text"].splitlines()[-1] == last
    assert "stopped with an error" not in result["messages"][-1]["meaning"]
    assert judge(result).value.endswith(last)


def test_the_real_checker_calls_an_empty_tree_ok_and_we_do_not(real, tmp_path):
    result = official.run_checker(real, tmp_path, "v6.1", tmp_path)
    assert (result["exit"], result["results"], result["ok"]) == (0, 0, False)
    assert judge(result).verdict == FAIL


def test_an_edge_tree_is_read_to_the_end(real, sample, tmp_path):
    """With system_type edge nothing crashes, and every error is explained."""
    system = sample / "closed/AMD/systems/8xMI325x_2xEPYC-9655.json"
    system.write_text(system.read_text().replace('"datacenter"', '"edge"'))
    result = official.run_checker(real, sample, "v6.1", tmp_path)
    texts = [entry["text"] for entry in result["messages"]]
    assert (result["ok"], result["exit"], texts[-1]) == (False, 1, "SUMMARY: submission has errors")
    assert any("qsl_rng_seed is wrong" in text for text in texts)
    assert any("does not have all required scenarios" in text for text in texts)
    assert "crash" not in levels(result)
    unknown = UNKNOWN.meaning
    assert [entry for entry in result["messages"] if entry["meaning"] == unknown] == []
