"""The log of one job: everything it prints, and its traceback if it fails."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from t2i.job.parent import die_with_scheduler


def _terminated(number: int, _: object) -> None:
    """A signal's reason in the log, in place of an end without a word."""
    raise SystemExit(
        f"stopped by {signal.Signals(number).name}: by a user, by Snakemake, or by the cluster's "
        "scheduler at the job's time or memory limit"
    )


@contextmanager
def job_log(path: str) -> Iterator[TextIO]:
    """Send stdout, stderr, logging and warnings of the block to the file `path`.

    Redirection happens at the level of file descriptors, so that output of compiled code and of
    child processes is kept too. The job ends with the scheduler that started it. Yields the
    original stderr, for progress on a terminal. An exception's traceback goes to the log, and its
    message to the original stderr.
    """
    die_with_scheduler()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(2), os.dup(1)
    with (
        Path(path).open("w", buffering=1) as log,
        os.fdopen(saved[0], "w", buffering=1) as terminal,
    ):
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        logging.basicConfig(
            level=logging.INFO,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
            force=True,
        )
        logging.captureWarnings(True)
        try:
            yield terminal
        except KeyboardInterrupt:  # whoever pressed Ctrl-C knows why
            print("stopped by SIGINT", file=sys.stderr)
            raise SystemExit(1) from None
        except BaseException as error:
            traceback.print_exc()
            print(f"{type(error).__name__}: {error}\nlog: {path}", file=terminal)
            raise SystemExit(1) from None
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(terminal.fileno(), 2)
            os.dup2(saved[1], 1)
            os.close(saved[1])
