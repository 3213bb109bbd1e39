"""A folder laid out as a checkout of mlcommons/inference, with small scripts in its words."""

import textwrap
from pathlib import Path

from t2i.compliance.checkout import SCRIPTS

# Says what the file answer.txt beside tools/ holds, and ends with the status in it.
CHECKER = """
    import sys
    from pathlib import Path
    exit_status, _, text = Path("../../answer.txt").read_text().partition("\\n")
    options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    Path(options["--csv"]).write_text(options["--version"])
    assert Path(options["--input"]).is_dir()
    print(text)
    sys.exit(int(exit_status))
"""
# Compares sizes of logs; each line is the official script's.
VERIFICATION = """
    import sys
    from pathlib import Path
    options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    test = Path(__file__).parent.name
    out = Path(options["-o"], test)
    out.mkdir(parents=True)
    log = Path(options["-r"], "performance/run_1/mlperf_log_detail.txt")
    passed = log.is_file() and '"VALID"' in Path(options["-c"], log.name).read_text()
    words = "TEST PASS" if passed else "TEST FAIL: Invalid results in x"
    (out / "verify_performance.txt").write_text(words + "\\nof the fake script\\n")
    print(words)
    if test == "TEST01":
        whole = Path(options["-r"], "accuracy/mlperf_log_accuracy.json").stat().st_size
        (out / "verify_accuracy.txt").write_text(f"{whole}\\nTEST PASS\\n")
        print("Accuracy check pass: True")
    print(f"Performance check pass: {passed}")
"""
OK = """
    [2026-08-20 10:00:00,123 main.py:270 INFO] Results=2, NoResults=0, Power Results=0
    [2026-08-20 10:00:00,123 main.py:300 INFO] SUMMARY: submission looks OK
"""


def write_checkout(folder: Path, answer: str = OK, exit_status: int = 0) -> Path:
    """The checkout; its checker writes `answer` and ends with `exit_status`."""
    for name in SCRIPTS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        source = {"main.py": CHECKER, "run_verification.py": VERIFICATION}.get(path.name, "")
        path.write_text(textwrap.dedent(source))
    (folder / "tools/submission/submission_checker/__init__.py").touch()
    (folder / "answer.txt").write_text(f"{exit_status}\n{textwrap.dedent(answer).strip()}\n")
    return folder
