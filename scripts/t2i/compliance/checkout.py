"""A checkout of mlcommons/inference, and its scripts run as they are."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from t2i.base.files import publish_folder
from t2i.compliance.provenance import git_state

REPOSITORY = "https://github.com/mlcommons/inference"
PINNED_COMMIT = "b66003e10e2db4b8c36a448b0545ec90fcc6e9e9"
NO_CHECKOUT = "no checkout of mlcommons/inference is configured (inference_checkout)"
CHECKER = "tools/submission"  # folder whose package submission_checker is run
SCRIPTS = (
    f"{CHECKER}/submission_checker/main.py",
    f"{CHECKER}/log_parser.py",
    *(
        f"compliance/{test}/{script}"
        for test, script in (
            ("TEST01", "run_verification.py"),
            ("TEST01", "verify_accuracy.py"),
            ("TEST01", "verify_performance.py"),
            ("TEST04", "run_verification.py"),
            ("TEST04", "verify_performance.py"),
        )
    ),
)
# All that the scripts need: a whole checkout holds samples of submissions and every benchmark.
NEEDED = (
    f"/{CHECKER}/submission_checker/",
    f"/{CHECKER}/*.py",
    "/compliance/TEST01/*.py",
    "/compliance/TEST04/*.py",
)
# Set inside a hook of git, and then git works in another repository than the folder's own.
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
GIT_SECONDS = 1800.0
SHOWN = 2000  # characters of a failed command's output in an error


class CheckoutError(RuntimeError):
    """There is no usable checkout; says what is missing and what to do."""


@dataclass(frozen=True)
class Checkout:
    """A folder with the official scripts.

    `commit` is None where the folder is not its own git working tree, and `modified` (whether
    tracked files differ from the commit) then as well.
    """

    path: Path
    commit: str | None
    modified: bool | None

    @property
    def remark(self) -> str:
        """What a reader has to know of where the scripts come from; empty for the pinned ones."""
        if self.commit is None:
            return "git knows no commit of the checkout, so that its scripts may be any"
        words = []
        if self.commit != PINNED_COMMIT:
            words.append(f"the checkout is at {self.commit}, {PINNED_COMMIT} was expected")
        if self.modified:
            words.append("tracked files of the checkout were modified")
        return "; ".join(words)


def open_checkout(folder: Path) -> Checkout:
    """The checkout in `folder`; raises CheckoutError that names every script it lacks."""
    path = folder.resolve()
    missing = [name for name in SCRIPTS if not (path / name).is_file()]
    if missing:
        raise CheckoutError(
            f"{folder}: incomplete checkout of mlcommons/inference, missing: {', '.join(missing)}; "
            f"set inference_checkout to a checkout of commit {PINNED_COMMIT}, to fetch, or to null"
        )
    state = git_state(path)
    return Checkout(path, state["commit"], state["dirty"])


def fetch_checkout(folder: Path, repository: str, commit: str = PINNED_COMMIT) -> Checkout:
    """Bring exactly one commit of `repository` (address or path) to `folder`, whole or not at all.

    Of its files only the official scripts are checked out, and none of the repository's code is
    run. A folder that has content already is opened if it is at this commit, unmodified. Raises
    CheckoutError with git's own words.
    """
    if folder.exists() and any(folder.iterdir()):
        checkout = open_checkout(folder)
        if checkout.commit == commit and not checkout.modified:
            return checkout
        raise CheckoutError(
            f"{folder}: is at commit {checkout.commit}, modified: {checkout.modified}; expected "
            f"{commit}; move the folder away and run again"
        )
    with publish_folder(folder) as part:
        _git(part, "init", "--quiet", "--template=")  # no template, hence no hooks
        _git(part, "config", "core.hooksPath", os.devnull)
        _git(part, "sparse-checkout", "set", "--no-cone", *NEEDED)
        _git(part, "remote", "add", "origin", repository)
        # Files outside the sparse checkout are not even brought where the server allows that.
        filtered = ("--depth=1", "--filter=blob:none", "--no-tags")
        _git(part, "fetch", "--quiet", *filtered, "origin", commit)
        _git(part, "checkout", "--quiet", "--detach", "FETCH_HEAD")
        head = _git(part, "rev-parse", "HEAD").strip()
        if head != commit:
            raise CheckoutError(
                f"{repository}: asked for commit {commit}, got {head}; give the full commit id"
            )
        open_checkout(part)
    return open_checkout(folder)


def _git(folder: Path, *words: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ELSEWHERE}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        finished = run_command(["git", *words], folder, GIT_SECONDS, environment)
    except FileNotFoundError as error:
        raise CheckoutError("git is not installed: install it and run again") from error
    if finished.exit == 0:
        return finished.text
    why = "time is up" if finished.exit is None else f"exit {finished.exit}"
    raise CheckoutError(
        f"git {' '.join(words)} failed ({why}): {finished.text.strip()[-SHOWN:]}; see whether the "
        "repository can be reached from here, or fetch it elsewhere and copy the folder"
    )


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit status (None: stopped at the time limit), and what it
    wrote to standard output and standard error together."""

    exit: int | None
    text: str


def run_command(
    command: list[str], folder: Path, seconds: float, environment: dict[str, str] | None = None
) -> Finished:
    """Run a command in `folder`; after `seconds` it is killed with everything it started.

    Without an `environment` it gets this one, and Python writes no byte code: a checkout stays as
    it is.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment or {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that its own children can be killed with it
    )
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text, _ = process.communicate()
        return Finished(None, text)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return Finished(process.returncode, text)
