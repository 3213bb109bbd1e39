"""The submission tree: one folder of logs, texts and images, as the submission checker reads it.

Where each file goes is for `t2i.submission.layout` to say, where it comes from is said here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from t2i.base.files import (
    file_table,
    publish_folder,
    read_json,
    sha256_bytes,
    sha256_file,
)
from t2i.mlperf import ACCURACY_LOG, AUDITS, DETAIL, SUMMARY
from t2i.submission import texts
from t2i.submission.layout import NOT_DETERMINISTIC, RUN, Layout
from t2i.submission.system import NAME, system_description

CONFIG = "config.yaml"
MAY_BE_EMPTY = ("captions.txt", "__init__.py")  # of a run too short to have any of the ten images
# What the workflow runs from; models and downloads are named by digest elsewhere.
SOURCE = (
    "Snakefile",
    "LICENSE",
    "requirements*.lock",
    "rules/**/*",
    "scripts/**/*",
    "envs/*",
    "containers/Containerfile",
    "containers/*.def",
    "config/**/*.yaml",
    "config/*.py",
)
SAME_MACHINE = ("processor", "gpus")


@dataclass(frozen=True, kw_only=True)
class TreeRequest:
    """What a tree is made of beside the folders of LoadGen's runs.

    `submission` is that of the configuration and `settings` the variant's, after defaults (dtype,
    patch, stand_in...); `weights` names the files that the weights came from, `patch` is the
    engine's copy of the variant's patch. `scenarios` and `audits` are those that were run. `commit`
    and `dirty` are of `t2i.compliance.provenance.git_state`; `command` and `config` (YAML) repeat
    the run.
    `source` is the folder of the workflow, whose source goes into the tree. `inferred` are further
    scenarios of the tree, which show the logs of one that was run.
    """

    round: str
    division: str
    run: str
    variant: str
    submission: dict[str, Any]
    settings: dict[str, Any]
    model: str
    weights: tuple[str, ...]
    patch: Path | None
    scenarios: tuple[str, ...]
    audits: tuple[str, ...]
    commit: str | None
    dirty: bool | None
    command: str
    config: str
    source: Path
    inferred: dict[str, str] = field(default_factory=dict)

    def shown(self) -> dict[str, str]:
        """The tree's scenarios: {scenario: the one that was run}."""
        return {**{name: name for name in self.scenarios}, **self.inferred}


def build_tree(folder: Path, loadgen: Path, request: TreeRequest) -> dict[str, dict[str, Any]]:
    """Publish the tree in `folder`, which then holds closed/ or open/, and return its files.

    `loadgen` holds a folder for each scenario, with a folder for each LoadGen test, scores/ and
    audits/. Files are {path: {"size" in bytes, "sha256"}} by path below `folder`. Raises ValueError
    with everything that is missing or does not fit together.
    """
    sources, written = _contents(loadgen, request)
    with publish_folder(folder) as part:
        for name, source in sources.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, part / name)  # a second name would change with the original
        for name, text in written.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_text(text, encoding="utf-8")
        return file_table(part)


def tree_table(loadgen: Path, request: TreeRequest) -> dict[str, dict[str, Any]]:
    """The files that `build_tree` would make, without making them. Raises as it does."""
    sources, written = _contents(loadgen, request)
    table = {
        str(name): {"size": source.stat().st_size, "sha256": sha256_file(source)}
        for name, source in sources.items()
    }
    for name, text in written.items():
        content = text.encode()
        table[str(name)] = {"size": len(content), "sha256": sha256_bytes(content)}
    return table


def _contents(
    loadgen: Path, request: TreeRequest
) -> tuple[dict[PurePosixPath, Path], dict[PurePosixPath, str]]:
    """What a tree holds: the files that are taken as they are, and the texts that are made here."""
    sources = dict(_sources(loadgen, request))
    problems = [
        f"{path}: {'is empty' if path.is_file() else 'is missing'}"
        for path in (*sources.values(), *_records(loadgen, request).values())
        if not (path.is_file() and (path.stat().st_size or path.name in MAY_BE_EMPTY))
    ]
    problems += _unfit(request)
    problems += [
        f"{path}: a submission may not hold a file of this name"
        for path in sources
        if not all(NAME.fullmatch(step) or step == "__init__.py" for step in path.parts)
    ]
    if problems:
        raise ValueError("\n".join(["the submission cannot be built:", *problems]))
    records = {scenario: read_json(path) for scenario, path in _records(loadgen, request).items()}
    return sources, _written(request, records)


def _records(loadgen: Path, request: TreeRequest) -> dict[str, Path]:
    return {name: loadgen / name / "performance/run.json" for name in request.scenarios}


def _layout(request: TreeRequest) -> Layout:
    submission = request.submission
    return Layout(request.round, request.division, submission["submitter"], submission["system"])


def source_folder(request: TreeRequest) -> PurePosixPath:
    """The folder of the tree that holds the workflow's source."""
    return _layout(request).code


def _sources(loadgen: Path, request: TreeRequest) -> Iterator[tuple[PurePosixPath, Path]]:
    """Each file of the tree that is taken as it is, by its path there."""
    layout = _layout(request)
    for scenario, source in request.shown().items():
        runs, results = loadgen / source, layout.results(scenario)
        yield layout.documents(scenario) / "user.conf", runs / "performance/user.conf"
        for log in (DETAIL, SUMMARY):
            yield results / RUN / log, runs / "performance" / log
            yield results / "accuracy" / log, runs / "accuracy" / log
        for name in ("accuracy.txt", ACCURACY_LOG, "images/captions.txt"):
            yield results / "accuracy" / name, runs / "scores" / name
        for image in sorted((runs / "scores/images").glob("*.png")):
            yield results / "accuracy/images" / image.name, image
        if request.division == "closed":
            for test in request.audits:
                yield from _audit_sources(runs, layout, scenario, test)
    if request.patch is not None:
        yield source_folder(request) / "patch.py", request.patch
    for path in source_files(request.source):
        yield source_folder(request) / path, request.source / path


def source_files(folder: Path) -> list[PurePosixPath]:
    """The files of the workflow in a folder, models and results left out."""
    paths = (path for name in SOURCE for path in sorted(folder.glob(name)) if path.is_file())
    relative = (PurePosixPath(path.relative_to(folder).as_posix()) for path in paths)
    return [path for path in relative if not {"__pycache__", ".snakemake"} & set(path.parts)]


def request_record(request: TreeRequest) -> dict[str, Any]:
    """A request as JSON, from which `recorded_request` makes it again."""
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(request).items()
    }


def recorded_request(record: Mapping[str, Any]) -> TreeRequest:
    """The request of a tree that was built. Raises TypeError for a record of another form."""
    patch = record["patch"]
    lists = {key: tuple(record[key]) for key in ("weights", "scenarios", "audits")}
    paths = {"patch": None if patch is None else Path(patch), "source": Path(record["source"])}
    return TreeRequest(**{**record, **lists, **paths})


def _audit_sources(
    runs: Path, layout: Layout, scenario: str, test: str
) -> Iterator[tuple[PurePosixPath, Path]]:
    folder, verified = layout.audit(scenario, test), runs / "audits" / test
    for path in layout.required_of(scenario, test):
        logged = path.parent == folder / RUN
        yield path, runs / test / path.name if logged else verified / path.relative_to(folder)
    for name in NOT_DETERMINISTIC if test == "TEST01" else ():
        if (runs / "part_iii" / name).exists():
            yield folder / "accuracy" / name, runs / "part_iii" / name


def _unfit(request: TreeRequest) -> Iterator[str]:
    """What is wrong with the request itself."""
    if request.division not in ("closed", "open"):
        yield f"division: got {request.division!r}; trees are built for 'closed' and 'open'"
    if not request.scenarios:
        yield "loadgen.scenarios: no scenario was run, so there is nothing to submit"
    for test in request.audits:
        if test not in AUDITS:
            yield f"audits: got {test!r}; known are {', '.join(AUDITS)}"
    if request.settings.get("patch") and request.patch is None:
        yield f"variant {request.variant}: its patch is missing, which a submission has to show"
    if not request.weights and not request.settings.get("stand_in"):
        yield f"variant {request.variant}: the names of its weights' files are missing"


def _written(request: TreeRequest, records: dict[str, dict[str, Any]]) -> dict[PurePosixPath, str]:
    """Each file of the tree that is made here, by its path."""
    first, *others = request.scenarios
    for scenario in others:
        for key in SAME_MACHINE:
            if records[scenario]["machine"].get(key) != records[first]["machine"].get(key):
                raise ValueError(
                    f"{first} and {scenario} were not run on the same machine, {key} differs; a "
                    "submission is of one system: run them on one kind of node"
                )
    notes = texts.notes(request, records)
    layout, code = _layout(request), source_folder(request)
    used = [
        sum(device["kind"] == "cuda" for device in record["devices"]) for record in records.values()
    ]
    system = system_description(
        request.division,
        request.submission,
        records[first]["machine"],
        records[first]["software"],
        max(used),
        " ".join(notes),
    )
    written = {
        layout.description: _json(system),
        layout.calibration: texts.calibration(request, notes),
        code / "README.md": texts.implementation(request, notes),
        code / CONFIG: request.config,
    }
    for scenario, source in request.shown().items():
        documents, name = layout.documents(scenario), "measurements.json"
        if not layout.nested:
            name = f"{layout.system}_{texts.IMPLEMENTATION}_{scenario}.json"
        written[documents / name] = _json(texts.measurements(request))
        written[documents / "README.md"] = texts.scenario_page(
            request, scenario, records[source], notes, str(code.relative_to(layout.root))
        )
    return written


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"
