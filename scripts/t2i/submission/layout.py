"""Where a submission's files lie: what must be there and what may be.

Sources: tools/submission/submission_checker (mlcommons/inference at b66003e1), constants.py and
loader.py. From round v6.0 on, measurements and audits lie in the scenario's folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from t2i.mlperf import ACCURACY_LOG, AUDITS, BENCHMARK, DETAIL, ROUNDS, SUMMARY

RUN = PurePosixPath("performance", "run_1")
# Of a variant's folder, beside its loadgen/: the tree, what it was built of, and its checks.
TREE, BUILT, CHECKED = "submission", "submission_files.json", "submission.json"
# What an audit's or the performance run's folder may hold beside its two logs.
BESIDE_LOGS = (ACCURACY_LOG, "mlperf_log_trace.json", "results.json", ".gitkeep")
NOT_DETERMINISTIC = ("baseline_accuracy.txt", "compliance_accuracy.txt")


@dataclass(frozen=True)
class Layout:
    """The folders of one submitter's one system, as paths relative to the tree."""

    round: str
    division: str
    submitter: str
    system: str

    @property
    def root(self) -> PurePosixPath:
        """The submitter's folder."""
        return PurePosixPath(self.division, self.submitter)

    @property
    def nested(self) -> bool:
        """Whether all of a scenario lies in one folder."""
        return ROUNDS[self.round].nested

    @property
    def source(self) -> PurePosixPath:
        """The folder of source code."""
        return self.root / ("src" if self.nested else "code")

    @property
    def code(self) -> PurePosixPath:
        """The folder of the system's own source code."""
        return self.source / BENCHMARK / self.system

    @property
    def calibration(self) -> PurePosixPath:
        """The page on calibration."""
        return self.root / "documentation" / f"{self.system}_calibration.md"

    @property
    def description(self) -> PurePosixPath:
        """The system description."""
        return self.root / "systems" / f"{self.system}.json"

    @property
    def scenarios(self) -> PurePosixPath:
        """The folder that holds a folder for each scenario."""
        return self._of("results")

    def results(self, scenario: str) -> PurePosixPath:
        """A scenario's performance/ and accuracy/ lie here."""
        return self.scenarios / scenario

    def documents(self, scenario: str) -> PurePosixPath:
        """user.conf, README.md and the description of the measurement lie here."""
        return self.documents_root / scenario

    @property
    def documents_root(self) -> PurePosixPath:
        """The folder of all scenarios' documents."""
        return self._of("results" if self.nested else "measurements")

    def measurements(self, tree: Path, scenario: str) -> PurePosixPath:
        """The description of the measurement; before v6.0 it may have parts of a name after the
        system's, of which the tree's own are taken."""
        documents = self.documents(scenario)
        if self.nested:
            return documents / "measurements.json"
        names = sorted(path.name for path in (tree / documents).glob("*.json"))
        named = [name for name in names if name.startswith(self.system)]
        return documents / (named[0] if named else f"{self.system}.json")

    def audit(self, scenario: str, test: str) -> PurePosixPath:
        """An audit's folder."""
        return self._of("results" if self.nested else "compliance") / scenario / test

    def _of(self, kind: str) -> PurePosixPath:
        return self.root / kind / self.system / BENCHMARK

    def required(self, tree: Path, scenario: str) -> Iterator[PurePosixPath]:
        """Files that a scenario must have, audits and images apart."""
        documents, results = self.documents(scenario), self.results(scenario)
        yield self.measurements(tree, scenario)
        yield from (documents / "user.conf", documents / "README.md")
        yield from (results / RUN / name for name in (DETAIL, SUMMARY))
        names = ("accuracy.txt", ACCURACY_LOG, DETAIL, SUMMARY, "images/captions.txt")
        yield from (results / "accuracy" / name for name in names)

    def required_of(self, scenario: str, test: str) -> Iterator[PurePosixPath]:
        """Files that an audit must have."""
        folder = self.audit(scenario, test)
        yield folder / "verify_performance.txt"
        yield from (folder / RUN / name for name in (DETAIL, SUMMARY))
        if test == "TEST01":
            yield folder / "verify_accuracy.txt"
            yield from (folder / "accuracy" / name for name in (ACCURACY_LOG, "accuracy.txt"))

    def optional(self, scenario: str) -> Iterator[PurePosixPath]:
        """Files that a scenario may have."""
        documents, results = self.documents(scenario), self.results(scenario)
        yield documents / "mlperf.conf"
        yield documents / "calibration_process.adoc"
        yield from (results / RUN / name for name in BESIDE_LOGS)
        yield results / "accuracy" / ".gitkeep"
        for test in AUDITS:
            folder = self.audit(scenario, test)
            yield from (folder / RUN / name for name in BESIDE_LOGS)
            yield from (folder / "accuracy" / name for name in NOT_DETERMINISTIC)

    def owns(self, path: PurePosixPath, beside: Layout) -> bool:
        """Whether a file is this system's, in a tree that holds the system `beside` too."""
        if self.root != beside.root:
            return path.is_relative_to(self.root)
        kinds = ("results", "measurements", "compliance")
        folders = (*(self._of(kind) for kind in kinds), self.code)
        files = (
            self.description,
            self.calibration,
            self.root / f"systems/{self.system}_power.yaml",
        )
        return path in files or any(path.is_relative_to(folder) for folder in folders)

    def anything_below(self) -> tuple[PurePosixPath, ...]:
        """Folders whose files are the submitter's own."""
        return (self.source, self.root / "documentation")

    def optional_files(self) -> tuple[PurePosixPath, ...]:
        """Files of the submitter that are not a scenario's."""
        power = f"{self.system}_power.yaml"
        names = ("model_mapping.json", "calibration.md", "README.md", f"systems/{power}")
        return tuple(self.root / name for name in names)
