"""`snakemake --logger t2i`: Snakemake's messages as `t2i.job.display` shows them.

The whole of them is in Snakemake's log, as ever.
"""

from __future__ import annotations

import logging
import sys
from logging import LogRecord
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from t2i.job.display import Display
from t2i.job.failures import STOPPED
from t2i.job.status import FINISHED

PASSED = ("Nothing to be done", STOPPED, "This was a dry-run")
REPEATED = ("RuleException:", "CalledProcessError")  # what the end of a job's log says better


class LogHandler(LogHandlerBase):
    """Turns Snakemake's records into calls of a display."""

    def __post_init__(self) -> None:
        self.display = Display(sys.stdout if self.common_settings.stdout else sys.stderr)

    def emit(self, record: LogRecord) -> None:
        """Show a record, or leave it to the log."""
        event, text = getattr(record, "event", None), record.getMessage()
        if event == LogEvent.RUN_INFO:
            self.display.plan(record.__dict__["stats"])
        elif event == LogEvent.JOB_FINISHED and (match := FINISHED.match(text)):
            self.display.finish(match[1])
        elif event == LogEvent.JOB_ERROR:
            told = record.__dict__
            self.display.say(f"{told['rule_name']} failed, log: {', '.join(told['log'])}")
        elif _is_shown(record.levelno, text):
            self.display.say(text)

    def close(self) -> None:
        """End the display."""
        self.display.close()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """It takes the place of Snakemake's own output."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """It writes no file."""
        return False

    @property
    def has_filter(self) -> bool:
        """It chooses by itself what to show, so that --quiet is not needed."""
        return True

    @property
    def has_formatter(self) -> bool:
        """It words its lines by itself."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """It draws no graph."""
        return False


def _is_shown(level: int, text: str) -> bool:
    """Whether a message without an event of its own is for people."""
    if level < logging.WARNING:
        return text.startswith(PASSED)
    return not text.startswith(REPEATED)
