"""A package of ten trainings: complete by the official checker, and what our verdict refuses."""

import json
import shutil
from pathlib import Path

import pytest

from t2i.base.files import read_json, write_json
from t2i.training.mllog import PREFIX, Evaluation, Submitter, log_lines, read_log, write_log
from t2i.training.package import (
    FIELDS,
    MENDS,
    RUNS,
    Layout,
    build_package,
    official_check,
    olympic_mean,
    package_checks,
    run_official_checker,
    summary,
    training_description,
)
from training_logs import facts

PROJECT = Path(__file__).parents[2]
SUBMISSION = {
    "submitter": "example",
    "system": "this-machine",
    "description": {
        "cooling": "air",
        "host_memory_configuration": "8 x DDR5",
        "host_networking": "none",
        "host_networking_topology": "N/A",
    },
}
MACHINE = {
    "processor": {
        "model": "a processor",
        "sockets": 2,
        "cores_per_socket": 48,
        "threads": 192,
        "caches": [],
    },
    "memory_bytes": 2**39,
    "storage": {"bytes": 10**12, "type": "NVMe"},
    "network": {"cards": 1, "kinds": ["Ethernet"]},
    "operating_system": "Linux",
}
SOFTWARE = {"torch": "2.13.0", "python": "3.11", "diffusers": "0.42.1"}


def logs(folder: Path, division: str, count: int = RUNS) -> list[Path]:
    """Logs of trainings that pass after 2,048,000 samples, the last after 2,560,000."""
    paths = []
    for number in range(count):
        passes = 5 if number == count - 1 else 4
        scores = [
            Evaluation(1000 * n, 512_000 * n, 80.0 if n >= passes else 200.0, 0.16)
            for n in range(1, 6)
        ]
        given = facts(seed=100 + number, checkpoints=5)
        submitter = Submitter("example", division, "research", "this-machine")
        paths.append(folder / f"log{number}.txt")
        write_log(paths[-1], log_lines(given, scores, submitter, 30_000))
    return paths


def built(folder: Path, division: str, count: int = RUNS) -> Layout:
    layout = Layout(folder / "package", "example", "this-machine")
    described = training_description(division, "onprem", SUBMISSION, MACHINE, SOFTWARE, 2, 0)
    build_package(layout, logs(folder, division, count), described, PROJECT)
    return layout


@pytest.fixture(scope="module", params=["closed", "open"])
def good(request, tmp_path_factory) -> Layout:
    return built(tmp_path_factory.mktemp(request.param), request.param)


def division(layout: Layout) -> str:
    return read_json(layout.description)["division"]


def test_a_package_is_what_the_official_checker_wants(good: Layout) -> None:
    """In the closed division with its checks of seeds and of convergence."""
    checks = package_checks(good, division(good) == "closed")
    assert {check.verdict for check in checks} == {"pass"}
    finished = run_official_checker(good)
    assert official_check(finished).value == "FOUND NO ERRORS", finished.text[-2000:]
    assert ("RCP Test Passed" in finished.text) == (division(good) == "closed")


def test_a_package_holds_logs_system_and_code(good: Layout) -> None:
    assert sorted(path.name for path in good.results.glob("*.txt")) == [
        f"result_{number}.txt" for number in range(RUNS)
    ]
    assert tuple(read_json(good.description)) == FIELDS
    assert read_json(good.description)["host_processor_vcpu_count"] == "192"
    assert (good.source / "scripts/t2i/training/trainer.py").is_file()
    assert str(PROJECT) not in good.description.read_text()


def test_the_score_is_the_mean_without_best_and_worst(good: Layout) -> None:
    found = summary(good)
    assert sorted(found["minutes"].values()) == [4.0] * 9 + [5.0]
    assert found["score"] == 4.0
    assert olympic_mean([1, 2, 6, 100]) == 4
    with pytest.raises(ValueError, match="needs three"):
        olympic_mean([1, 2])


def edit_log(layout: Layout, number: int, change) -> None:
    path = layout.results / f"result_{number}.txt"
    events = [change(event) for event in read_log(path)]
    write_log(path, [PREFIX + json.dumps(event) for event in events if event])


def set_value(key: str, value):
    return lambda event: {**event, "value": value} if event["key"] == key else event


def remove(key: str):
    return lambda event: None if event["key"] == key else event


def describe(layout: Layout, **changes) -> None:
    described = {**read_json(layout.description), **changes}
    write_json(layout.description, {k: v for k, v in described.items() if v is not None})


WRONG = {
    "nine files": ("files", True, lambda layout: (layout.results / "result_9.txt").unlink()),
    "eleven files": (
        "files",
        True,
        lambda layout: shutil.copy(
            layout.results / "result_9.txt", layout.results / "result_10.txt"
        ),
    ),
    "two equal seeds": (
        "seeds",
        True,
        lambda layout: edit_log(layout, 3, set_value("seed", 100)),
    ),
    "two logs without a line": (
        "logs",
        True,
        lambda layout: [edit_log(layout, n, remove("opt_name")) for n in (1, 2)],
    ),
    "another learning rate": (
        "settings",
        False,
        lambda layout: edit_log(layout, 2, set_value("opt_base_learning_rate", 1.0)),
    ),
    "a system without cooling": ("system", True, lambda layout: describe(layout, cooling=None)),
    "an unknown status": ("system", True, lambda layout: describe(layout, status="sold")),
    "no code": ("source", False, lambda layout: shutil.rmtree(layout.source)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_package_is_refused_with_its_mend(name: str, tmp_path: Path) -> None:
    what, officially, change = WRONG[name]
    layout = built(tmp_path, "closed")
    change(layout)
    failed = {check.id: check for check in package_checks(layout, True) if check.verdict == "fail"}
    assert failed[f"package.{what}"].mend == MENDS[what]
    if officially:
        assert official_check(run_official_checker(layout)).verdict == "fail"


def test_one_log_of_ten_may_fail(tmp_path: Path) -> None:
    layout = built(tmp_path, "open")
    edit_log(layout, 4, remove("opt_name"))
    checks = {check.id: check for check in package_checks(layout, False)}
    assert checks["package.logs"].verdict == "pass"
    assert "result_4.txt: training.keys" in checks["package.logs"].value
    assert official_check(run_official_checker(layout)).verdict == "pass"


def test_a_system_that_nobody_described_is_refused() -> None:
    with pytest.raises(ValueError, match="submission.description.cooling"):
        training_description(
            "open", "cloud", {**SUBMISSION, "description": {}}, MACHINE, SOFTWARE, 1, 0
        )
