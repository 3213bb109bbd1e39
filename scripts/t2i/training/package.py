"""The package of ten trainings: MLPerf's tree, our verdict on it, and its official checker's."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i.base.check import FAIL, PASS, Check, Finding, Rule, judge, listed
from t2i.base.files import read_json, write_json
from t2i.compliance.checkout import Finished
from t2i.submission.system import system_description
from t2i.submission.tree import source_files
from t2i.training.mllog import BENCHMARK, RULESET, minutes, read_log
from t2i.training.verdict import Events, run_mlperf_logging, training_checks, with_mends

CHECKER = "mlperf-logging's package checker, ruleset 5.0.0"
RUNS = 10
NAME = "t2i-bench"
STATUSES = {
    "onprem": "Available on-premise",
    "cloud": "Available cloud",
    "preview": "Preview",
    "research": "Research, Development, or Internal (RDI)",
}
FIELDS = (
    *("submitter", "division", "status", "system_name", "number_of_nodes"),
    *("host_processors_per_node", "host_processor_model_name", "host_processor_core_count"),
    *("host_processor_vcpu_count", "host_processor_frequency", "host_processor_caches"),
    *("host_processor_interconnect", "host_memory_capacity", "host_storage_type"),
    *("host_storage_capacity", "host_networking", "host_networking_topology"),
    *("host_memory_configuration", "accelerators_per_node", "accelerator_model_name"),
    *("accelerator_host_interconnect", "accelerator_frequency", "accelerator_on-chip_memories"),
    *("accelerator_memory_configuration", "accelerator_memory_capacity"),
    *("accelerator_interconnect", "accelerator_interconnect_topology", "cooling", "hw_notes"),
    *("framework", "other_software_stack", "operating_system", "sw_notes"),
)
SAME = (
    *("submission_division", "global_batch_size", "opt_base_learning_rate"),
    *("opt_learning_rate_warmup_steps", "train_samples", "eval_samples"),
)


def training_description(
    division: str,
    status: str,
    submission: dict[str, Any],
    machine: dict[str, Any],
    software: dict[str, str],
    nodes: int,
    accelerators: int,
) -> dict[str, Any]:
    """The content of systems/<system>.json: the fields of MLPerf Training, from inference's.

    Arguments as in `t2i.submission.system.system_description`, and of the configuration's training
    `status` and the number of `nodes`, each with `accelerators`. Raises ValueError with everything
    that is missing.
    """
    found = system_description(division, submission, machine, software, accelerators)
    found["status"] = STATUSES[status]
    found["number_of_nodes"] = nodes
    found.setdefault("host_processor_vcpu_count", machine.get("processor", {}).get("threads", ""))
    return {name: str(found.get(name, "")) for name in FIELDS}  # the checker joins texts


@dataclass(frozen=True)
class Layout:
    """Where a package's files lie, below its folder."""

    folder: Path
    submitter: str
    system: str

    @property
    def root(self) -> Path:
        """The submitter's folder, which the checker looks at."""
        return self.folder / self.submitter

    @property
    def results(self) -> Path:
        """The folder of logs."""
        return self.root / "results" / self.system / BENCHMARK

    @property
    def description(self) -> Path:
        """The system description."""
        return self.root / "systems" / f"{self.system}.json"

    @property
    def source(self) -> Path:
        """The folder of the code."""
        return self.root / "benchmarks" / BENCHMARK / "implementations" / NAME


def build_package(
    layout: Layout, logs: Sequence[Path], description: dict[str, Any], source: Path
) -> None:
    """Write the tree: logs as result_0.txt and so on, system description, the workflow's source."""
    layout.results.mkdir(parents=True)
    for number, log in enumerate(logs):
        shutil.copyfile(log, layout.results / f"result_{number}.txt")
    layout.description.parent.mkdir(parents=True)
    write_json(layout.description, description)
    for path in source_files(source):
        copy = layout.source / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, copy)


def olympic_mean(values: Sequence[float]) -> float:
    """Mean without the least and the largest; raises ValueError for fewer than three values."""
    if len(values) < 3:
        raise ValueError(f"{len(values)} values; an olympic mean needs three")
    kept = sorted(values)[1:-1]
    return sum(kept) / len(kept)


def _logs(layout: Layout) -> dict[str, Events]:
    return {path.name: read_log(path) for path in sorted(layout.results.glob("result_*.txt"))}


def _value(events: Events, key: str) -> Any:
    found = [event["value"] for event in events if event["key"] == key]
    return found[0] if len(found) == 1 else f"{len(found)} lines"


def _files(layout: Layout, closed: bool) -> Finding:
    wanted = {f"result_{number}.txt" for number in range(RUNS)}
    found = {path.name for path in layout.results.iterdir()} - {"scaling.json"}
    wrong = [f"{name} is missing" for name in sorted(wanted - found)]
    wrong += [f"{name} does not belong there" for name in sorted(found - wanted)]
    return listed(wrong, f"{RUNS} logs")


def _compliant(layout: Layout, closed: bool) -> Finding:
    failed = {
        name: [check.id for check in training_checks(events, closed) if check.verdict == FAIL]
        for name, events in _logs(layout).items()
    }
    wrong = [f"{name}: {', '.join(ids)}" for name, ids in failed.items() if ids]
    if len(wrong) == 1:  # as the official checker has it
        return Finding(f"{wrong[0]}; one of ten may fail", True)
    return listed(wrong, "all")


def _seeds(layout: Layout, closed: bool) -> Finding:
    owners: dict[Any, str] = {}
    wrong = []
    for name, events in _logs(layout).items():
        seed = _value(events, "seed")
        if seed in owners:
            wrong.append(f"{name} has the seed {seed} of {owners[seed]}")
        owners[seed] = name
    return listed(wrong, f"{len(owners)} seeds")


def _same(layout: Layout, closed: bool) -> Finding:
    logs = _logs(layout)
    wrong = []
    for key in SAME:
        values = {str(_value(events, key)) for events in logs.values()}
        if len(values) != 1:
            wrong.append(f"{key}: {', '.join(sorted(values))}")
    return listed(wrong, "the same in all runs")


def _system(layout: Layout, closed: bool) -> Finding:
    found = read_json(layout.description)
    wrong = [f"{name}: missing" for name in FIELDS if name not in found]
    if found.get("status") not in STATUSES.values():
        wrong.append(f"status: {found.get('status')!r}")
    if not str(found.get("host_processors_per_node", "")).isdecimal():
        wrong.append(f"host_processors_per_node: {found.get('host_processors_per_node')!r}")
    if found.get("division") != ("closed" if closed else "open"):
        wrong.append(f"division: {found.get('division')!r}")
    return listed(wrong, f"{len(FIELDS)} fields")


def _source(layout: Layout, closed: bool) -> Finding:
    count = sum(path.is_file() for path in layout.source.rglob("*"))
    return listed([] if count else ["no source"], f"{count} files")


RULES = (
    Rule("files", "There are ten logs, result_0.txt to result_9.txt.", CHECKER, _files),
    Rule("logs", "At most one of the logs fails its own checks.", CHECKER, _compliant),
    Rule("seeds", "No two runs have the same seed.", CHECKER, _seeds),
    Rule("settings", "All runs have the same settings.", CHECKER, _same),
    Rule("system", "The system description is complete.", CHECKER, _system),
    Rule("source", "The code that ran is in the package.", CHECKER, _source),
)
MENDS = {
    "files": "set training.runs to 10; more or fewer files are not accepted",
    "logs": "train the failed runs again: delete their folders and run again",
    "seeds": "leave the seeds to the workflow, which adds the number of the run to training.seed",
    "settings": "logs of other settings are in the package: delete it and run again",
    "system": "describe in submission.description what could not be detected",
    "source": "delete the package and run again",
}


def package_checks(layout: Layout, closed: bool) -> list[Check]:
    """A check of each rule for a package. Nothing is raised."""
    checks = judge(RULES, "package", (layout, closed), closed=closed, shortened=())
    return with_mends(checks, MENDS)


def run_official_checker(layout: Layout) -> Finished:
    """Run mlperf-logging's package checker on a package."""
    checker = "mlperf_logging.package_checker"
    return run_mlperf_logging(checker, str(layout.root.resolve()), "training", RULESET)


def official_check(finished: Finished) -> Check:
    """What the official checker said."""
    ok = finished.exit == 0 and "PACKAGE CHECKER FOUND NO ERRORS" in finished.text
    errors = [line for line in finished.text.splitlines() if line.startswith("ERROR")]
    value = "FOUND NO ERRORS" if ok else "; ".join(errors[:5]) or f"exit status {finished.exit}"
    text = "mlperf-logging's package checker finds no errors."
    return Check("package.checker", text, value, PASS if ok else FAIL, CHECKER)


def summary(layout: Layout) -> dict[str, Any]:
    """Minutes of each run, and their olympic mean where there are enough."""
    times = {name: minutes(events) for name, events in _logs(layout).items()}
    values = list(times.values())
    return {"minutes": times, "score": olympic_mean(values) if len(values) >= 3 else None}
