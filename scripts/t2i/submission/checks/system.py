"""Rules on the two descriptions in JSON: of the system and of a measurement.

Sources: checks/system_check.py, checks/measurements_checks.py and constants.py of the submission
checker (mlcommons/inference at b66003e1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2i.base.check import CHECKER, OURS, Finding, Rule, listed
from t2i.base.files import read_json
from t2i.submission.checks.findings import read_text
from t2i.submission.layout import Layout
from t2i.submission.system import COUNTS, FIELDS, NOT_EMPTY

STATUSES = ("available", "preview", "rdi")
TYPES = ("edge", "datacenter", "datacenter,edge", "edge,datacenter")
DEVICES = re.compile(r"(\d+) worker\(s\) on (.+?)\.$", re.M)  # of a scenario's page
DTYPE = re.compile(r"\bdtype (\w+)")  # of the code folder's page
MEASUREMENT = (
    "input_data_types",
    "retraining",
    "starting_weights_filename",
    "weight_data_types",
    "weight_transformations",
)


def _object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path.name}: expected a JSON object")
    return content


def _empty(value: Any) -> bool:
    return not value or not str(value).strip()


def _system(tree: Path, layout: Layout) -> dict[str, Any]:
    return _object(tree / layout.description)


def _fields(tree: Path, layout: Layout, system_type: str) -> Finding:
    description = _system(tree, layout)
    missing = (f"{name}: missing" for name in FIELDS if name not in description)
    return listed(missing, f"all {len(FIELDS)} fields")


def _filled(tree: Path, layout: Layout, system_type: str) -> Finding:
    description = _system(tree, layout)
    problems = (
        f"{name}: {description.get(name)!r}" + (', write the text "0"' if zero else " is empty")
        for name in NOT_EMPTY
        if _empty(description.get(name))
        for zero in [description.get(name) == 0]
    )
    return listed(problems, f"all {len(NOT_EMPTY)} fields say something")


def _types(tree: Path, layout: Layout, system_type: str) -> Finding:
    return listed(_wrong_types(_system(tree, layout)), "texts and whole numbers")


def _wrong_types(description: dict[str, Any]) -> Iterator[str]:
    for name, value in description.items():
        if isinstance(value, bool) or not isinstance(value, str | int):
            yield f"{name}: {value!r} is neither a text nor a whole number"
    for name in COUNTS:
        text = str(description.get(name, ""))
        if not (text.isascii() and text.isdigit()):
            yield f"{name}: {text!r} is not a whole number"
    if str(description.get("number_of_nodes")) == "0":
        yield "number_of_nodes: '0', a system has at least one"


def _division(tree: Path, layout: Layout, system_type: str) -> Finding:
    return _equal(_system(tree, layout).get("division"), layout.division)


def _submitter(tree: Path, layout: Layout, system_type: str) -> Finding:
    return _equal(_system(tree, layout).get("submitter"), layout.submitter)


def _equal(found: Any, wanted: str) -> Finding:
    problems = [] if found == wanted else [f"{found!r}; expected {wanted!r}"]
    return listed(problems, found)


def _category(tree: Path, layout: Layout, system_type: str) -> Finding:
    category = _system(tree, layout).get("system_type")
    same = category in TYPES and set(category.split(",")) == set(system_type.split(","))
    return listed([] if same else [f"{category!r}; expected {system_type!r}"], category)


def _status(tree: Path, layout: Layout, system_type: str) -> Finding:
    status = _system(tree, layout).get("status")
    problems = [] if status in STATUSES else [f"{status!r}; expected one of {', '.join(STATUSES)}"]
    return listed(problems, status)


def _network(tree: Path, layout: Layout, system_type: str) -> Finding:
    network = _system(tree, layout).get("is_network")
    problems = [f"is_network: {network!r}; leave the field out"] if network is not None else []
    return listed(problems, "no network submission")


def _agree(tree: Path, layout: Layout, system_type: str) -> Finding:
    """Whether the description contradicts itself, or the pages that describe the devices."""
    description = _system(tree, layout)
    problems = []
    none = str(description.get("accelerators_per_node")) == "0"
    model = str(description.get("accelerator_model_name", ""))
    if none != (model.strip().upper() == "N/A"):
        problems.append(
            f"accelerators_per_node is {description.get('accelerators_per_node')!r}, "
            f"accelerator_model_name {model!r}"
        )
    host = str(description.get("host_processor_model_name", ""))
    for page in sorted((tree / layout.documents_root).glob("*/README.md")):
        for number, device in DEVICES.findall(read_text(page)):
            if device not in (*model.split(", "), *host.split(", ")):
                problems.append(
                    f"{page.parent.name}/README.md: {number} worker(s) on {device}, "
                    "which is neither the accelerator nor the host's processor"
                )
    return listed(problems, "one system is described")


SYSTEM_RULES = (
    Rule("system.fields", "the system description has every field", CHECKER, _fields),
    Rule("system.filled", "no field that asks for an answer is empty", CHECKER, _filled),
    Rule("system.types", "fields are texts, counts are whole numbers", OURS, _types),
    Rule("system.division", "the division is that of the folder", CHECKER, _division),
    Rule("system.submitter", "the submitter is that of the folder", CHECKER, _submitter),
    Rule("system.category", "the system type is the one submitted for", CHECKER, _category),
    Rule("system.status", "the status is one that MLPerf knows", CHECKER, _status),
    Rule("system.agree", "the description contradicts neither itself nor the pages", OURS, _agree),
    Rule("system.network", "the system is not described as a network's", CHECKER, _network),
)


def retraining_finding(path: Path) -> Finding:
    """Whether the weights were left as they were, as the closed division asks for."""
    retraining = _object(path).get("retraining")
    return listed(
        [] if str(retraining).strip().lower() == "no" else [f"retraining: {retraining!r}"],
        retraining,
    )


def engine_finding(path: Path, code: Path) -> Finding:
    """Whether the weights' number format is the one that the code folder's page names."""
    names = set(re.findall(r"\w+", str(_object(path).get("weight_data_types")).lower()))
    engine_types = {
        name for page in sorted(code.glob("README.md")) for name in DTYPE.findall(read_text(page))
    }
    if not engine_types:
        return Finding("the code folder names no number format", None)
    used = ", ".join(sorted(engine_types))
    problems = [f"weight_data_types: {', '.join(sorted(names))}; the engine's are {used}"]
    return listed([] if names & engine_types else problems, used)


def measurement_finding(path: Path) -> Finding:
    """Whether the description of a measurement has its five fields, none of them empty."""
    content = _object(path)
    problems = (
        f"{name}: missing" if name not in content else f"{name}: {content[name]!r} is not text"
        for name in MEASUREMENT
        if not isinstance(content.get(name), str) or _empty(content[name])
    )
    return listed(problems, f"all {len(MEASUREMENT)} fields")
