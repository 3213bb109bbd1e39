"""A job of Snakemake: its log, its inputs verified, its results recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from t2i.job import records
from t2i.job.log import job_log

SCRIPTS = Path(__file__).resolve().parents[2]


class LibraryError(RuntimeError):
    """The library of another copy of the project was loaded."""


def check_library(script_folder: str) -> None:
    """Raise LibraryError unless this library lies beside the scripts of the workflow that runs.

    The digest of a rule's code is that of the workflow's own library.
    """
    if Path(script_folder).resolve() != SCRIPTS:
        raise LibraryError(
            f"the library t2i was loaded from {SCRIPTS}, but the workflow's is in {script_folder}; "
            "unset PYTHONPATH, or take the other folder out of it, and run again"
        )


@contextmanager
def job(snakemake: Any) -> Iterator[TextIO]:
    """As `t2i.job.log.job_log`, around what a script does for the job that `snakemake` describes.

    Inputs that have a record are compared with it before the block, and results are recorded after
    it (`t2i.job.records`). Another copy's library is refused.
    """
    with job_log(snakemake.log[0]) as terminal:
        check_library(snakemake.scriptdir)
        facts = {str(path): records.check(Path(path)) for path in snakemake.input}
        yield terminal
        records.write_records(
            snakemake.rule,
            {path: found for path, found in facts.items() if found is not None},
            [Path(path) for path in snakemake.output],
            dict(snakemake.params.items()),
        )
