"""What may be wrong with a submission: each way changes a good tree, and one check must notice."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fake_loadgen import (
    DETAIL,
    LOG,
    SUMMARY,
    add_error,
    image_of,
    read_detail,
    set_detail,
    set_summary,
)
from t2i.mlperf import BENCHMARK, ROUNDS
from t2i.submission.checks.logs import FIGURES

ROOT = Path("closed/acme")
SYSTEM = ROOT / "systems/my-box.json"
OFFLINE = ROOT / "results/my-box" / BENCHMARK / "Offline"
STREAM = OFFLINE.with_name("SingleStream")
RUN = Path("performance/run_1")
SHOWN = ROUNDS["v6.1"].image_ids[0]


@dataclass(frozen=True)
class Case:
    """`change` is applied to a tree's folder; the check of id `check` must then fail."""

    name: str
    check: str
    change: Callable[[Path], Any]


def edit(path: Path, change: Callable[[str], str]) -> Callable[[Path], None]:
    def apply(tree: Path) -> None:
        text = (tree / path).read_text()
        changed = change(text)
        assert changed != text, path
        (tree / path).write_text(changed)

    return apply


def put(path: Path, content: str) -> Callable[[Path], None]:
    def apply(tree: Path) -> None:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(content)

    return apply


def gone(path: Path) -> Callable[[Path], None]:
    def apply(tree: Path) -> None:
        shutil.rmtree(tree / path) if (tree / path).is_dir() else (tree / path).unlink()

    return apply


def detail(run: Path, **values: Any) -> Callable[[Path], None]:
    def apply(tree: Path) -> None:
        for key, value in values.items():
            set_detail(tree / run / DETAIL, key, value)

    return apply


def both(run: Path, label: str, key: str, value: Any) -> Callable[[Path], None]:
    """Change what stands in both logs, so that they agree."""

    def apply(tree: Path) -> None:
        set_detail(tree / run / DETAIL, key, value)
        set_summary(tree / run / SUMMARY, label, str(value))

    return apply


def system(**values: Any) -> Callable[[Path], None]:
    """Change fields of the system description; None takes one out."""

    def change(text: str) -> str:
        content = {**json.loads(text), **values}
        return json.dumps({key: value for key, value in content.items() if value is not None})

    return edit(SYSTEM, change)


def paint(name: str, image: np.ndarray) -> Callable[[Path], None]:
    return lambda tree: Image.fromarray(image).save(tree / OFFLINE / "accuracy/images" / name)


def score(pattern: str, value: str) -> Callable[[Path], None]:
    path = OFFLINE / "accuracy/accuracy.txt"
    return edit(path, lambda text: re.sub(pattern, value, text))


def invalid(summary: bool) -> Callable[[Path], None]:
    """A run that LoadGen called INVALID, called VALID in one log or in both."""

    def apply(tree: Path) -> None:
        run = tree / OFFLINE / RUN
        set_detail(run / DETAIL, "result_min_duration_met", False)
        set_summary(run / SUMMARY, "Min duration satisfied", "NO")
        if summary:
            set_detail(run / DETAIL, "result_validity", "INVALID")

    return apply


def short_run(tree: Path) -> None:
    """A run that ended after half its time, with every verdict of LoadGen turned round."""
    run = tree / OFFLINE / RUN
    for label, key in FIGURES.items():
        if key in {message["key"] for message in read_detail(run / DETAIL)}:
            shown = next(m for m in read_detail(run / DETAIL) if m["key"] == key)["value"]
            value = 2 * shown if "per_second" in key else shown // 2
            set_detail(run / DETAIL, key, value)
            set_summary(run / SUMMARY, label, str(value))


def faster(test: str, factor: float) -> Callable[[Path], None]:
    """An audit that was `factor` times as fast, told alike in all of its files."""

    def apply(tree: Path) -> None:
        folder = tree / OFFLINE / test
        rate = 17.0 * factor
        for label, key in (
            ("Samples per second", "result_samples_per_second"),
            ("samples_per_query", "effective_samples_per_query"),
        ):
            value = rate if key.startswith("result") else round(rate * 660)
            set_detail(folder / RUN / DETAIL, key, value)
            set_summary(folder / RUN / SUMMARY, label, str(value))
        path = folder / "verify_performance.txt"
        path.write_text(re.sub(r"(?i)(test score = ).*", rf"\g<1>{rate}", path.read_text()))

    return apply


def copied(source: Path, target: Path) -> Callable[[Path], None]:
    return lambda tree: shutil.copytree(tree / source, tree / target, dirs_exist_ok=True)


def latest_lines(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[:-1])


CHECK = "submission.Offline"
IMAGES = f"{CHECK}.accuracy.images"
PERFORMANCE = OFFLINE / RUN
ACCURACY = OFFLINE / "accuracy"
GREY = np.full((16, 16, 3), 128, np.uint8)
OTHER = ROUNDS["v6.0"]
CASES = (
    Case("swapped image", f"{IMAGES}.pixels", paint(f"{SHOWN}.png", image_of(1))),
    Case("missing image", f"{IMAGES}.ids", gone(ACCURACY / f"images/{SHOWN}.png")),
    Case("image of another sample", f"{IMAGES}.ids", paint("17.png", image_of(17))),
    Case("black image", f"{IMAGES}.constant", paint(f"{SHOWN}.png", GREY * 0)),
    Case("grey image", f"{IMAGES}.constant", paint(f"{SHOWN}.png", GREY)),
    Case("small image", f"{IMAGES}.size", paint(f"{SHOWN}.png", image_of(SHOWN, 8))),
    Case("grey-scale image", f"{IMAGES}.readable", paint(f"{SHOWN}.png", GREY[..., 0])),
    Case("no PNG", f"{IMAGES}.readable", put(ACCURACY / f"images/{SHOWN}.png", "an image")),
    Case("image twice", f"{IMAGES}.distinct", paint(f"{SHOWN}.png", image_of(3627))),
    Case(
        "other caption",
        f"{IMAGES}.captions",
        edit(ACCURACY / "images/captions.txt", lambda text: text.replace("thing", "dog", 1)),
    ),
    Case(
        "caption missing",
        f"{IMAGES}.captions",
        edit(ACCURACY / "images/captions.txt", latest_lines),
    ),
    *(
        Case(
            f"{name} of another round",
            f"{CHECK}.performance.seeds.{name.removesuffix('_rng_seed')}",
            both(PERFORMANCE, name, f"effective_{name}", getattr(OTHER, name)),
        )
        for name in ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")
    ),
    Case(
        "seed of the accuracy run",
        f"{CHECK}.accuracy.seeds.qsl",
        detail(ACCURACY, effective_qsl_rng_seed=OTHER.qsl_rng_seed),
    ),
    Case(
        "summary edited",
        f"{CHECK}.performance.agree.figures",
        lambda tree: set_summary(tree / PERFORMANCE / SUMMARY, "Samples per second", "19"),
    ),
    Case("VALID in the summary alone", f"{CHECK}.performance.result", invalid(summary=True)),
    Case("VALID in both logs", f"{CHECK}.performance.duration_met", invalid(summary=False)),
    Case("short run called long", f"{CHECK}.performance.duration_met", short_run),
    Case(
        "result better than its latencies",
        f"{CHECK}.performance.metric",
        both(PERFORMANCE, "Samples per second", "result_samples_per_second", 34.0),
    ),
    Case(
        "duration asked for",
        f"{CHECK}.performance.min_duration",
        both(PERFORMANCE, "min_duration (ms)", "effective_min_duration_ms", 599999),
    ),
    Case(
        "samples of the data set",
        f"{CHECK}.performance.samples",
        both(PERFORMANCE, "performance_sample_count", "effective_performance_sample_count", 4999),
    ),
    Case(
        "samples of the query",
        f"{CHECK}.performance.samples_per_query",
        both(PERFORMANCE, "samples_per_query", "effective_samples_per_query", 4999),
    ),
    Case(
        "min_query_count",
        f"{CHECK}.performance.min_query_count",
        both(PERFORMANCE, "min_query_count", "effective_min_query_count", 0),
    ),
    Case(
        "few queries for early stopping",
        "submission.SingleStream.performance.early_stopping",
        detail(STREAM / RUN, result_query_count=63),
    ),
    Case(
        "samples of the accuracy run",
        f"{CHECK}.accuracy.accuracy_count",
        detail(ACCURACY, effective_accuracy_sample_count=4999),
    ),
    Case(
        "error in the performance log",
        f"{CHECK}.performance.errors",
        lambda tree: add_error(tree / PERFORMANCE / DETAIL),
    ),
    Case(
        "error in the accuracy log",
        f"{CHECK}.accuracy.errors",
        lambda tree: add_error(tree / ACCURACY / DETAIL),
    ),
    Case(
        "no log of LoadGen",
        f"{CHECK}.performance.log",
        edit(PERFORMANCE / DETAIL, lambda text: "# my log\n" + text),
    ),
    Case(
        "half a log",
        f"{CHECK}.performance.log",
        edit(PERFORMANCE / DETAIL, lambda text: text[: len(text) // 2]),
    ),
    Case(
        "other scenario's logs", f"{CHECK}.performance.scenario", copied(STREAM / RUN, PERFORMANCE)
    ),
    Case(
        "an audit's logs",
        f"{CHECK}.performance.audit",
        copied(OFFLINE / "TEST04" / RUN, PERFORMANCE),
    ),
    Case(
        "the performance run's logs as an audit's",
        f"{CHECK}.TEST04.audit",
        copied(PERFORMANCE, OFFLINE / "TEST04" / RUN),
    ),
    Case("no TEST01", "submission.files.missing", gone(OFFLINE / "TEST01")),
    Case("no TEST04", "submission.files.missing", gone(OFFLINE / "TEST04")),
    Case("TEST01 11 % slower", f"{CHECK}.TEST01.speed", faster("TEST01", 0.89)),
    Case("TEST01 11 % faster", f"{CHECK}.TEST01.speed", faster("TEST01", 1.11)),
    Case("TEST04 11 % faster", f"{CHECK}.TEST04.speed", faster("TEST04", 1.11)),
    Case(
        "TEST04 failed",
        f"{CHECK}.TEST04.verified",
        edit(OFFLINE / "TEST04/verify_performance.txt", lambda text: text.replace("PASS", "FAIL")),
    ),
    Case(
        "verification of another run",
        f"{CHECK}.TEST04.verified",
        edit(
            OFFLINE / "TEST04/verify_performance.txt",
            lambda text: re.sub(r"(?i)(reference score = ).*", r"\g<1>23.0", text),
        ),
    ),
    Case(
        "TEST01 images differ",
        f"{CHECK}.TEST01.images",
        edit(OFFLINE / "TEST01/verify_accuracy.txt", lambda text: text.replace("PASS", "FAIL")),
    ),
    Case(
        "seed of TEST01",
        f"{CHECK}.TEST01.seeds.qsl",
        both(OFFLINE / "TEST01" / RUN, "qsl_rng_seed", "effective_qsl_rng_seed", 1),
    ),
    Case(
        "500 samples in TEST04",
        f"{CHECK}.TEST04.samples_per_query",
        both(OFFLINE / "TEST04" / RUN, "samples_per_query", "effective_samples_per_query", 500),
    ),
    Case(
        "file beside an audit's logs",
        "submission.files.unknown",
        put(OFFLINE / "TEST04" / RUN / "a.txt", "a"),
    ),
    Case("file beside the submitter", "submission.files.unknown", put(Path("notes.txt"), "a")),
    Case("second submitter", "submission.files.unknown", put(Path("closed/other/src/a.py"), "a")),
    Case("hash of another log", f"{CHECK}.accuracy.hash", score("hash=.*", f"hash={'a' * 64}")),
    Case("no hash", f"{CHECK}.accuracy.hash", score("hash=.*", "")),
    Case(
        "log not truncated",
        f"{CHECK}.accuracy.log.size",
        edit(ACCURACY / LOG, lambda text: text[:4000] + "0" * 8000 + text[4000:]),
    ),
    Case(
        "log cut elsewhere",
        f"{CHECK}.accuracy.log.truncated",
        edit(ACCURACY / LOG, lambda text: text[:4000] + text[4100:]),
    ),
    Case(
        "log joined without a mark",
        f"{CHECK}.accuracy.log.truncated",
        edit(ACCURACY / LOG, lambda text: text.replace("\n\n...\n\n", "0000000")),
    ),
    Case("CLIP too low", f"{CHECK}.accuracy.clip", score("31.75", "31.68")),
    Case("CLIP too high", f"{CHECK}.accuracy.clip", score("31.75", "31.82")),
    Case("FID too low", f"{CHECK}.accuracy.fid", score("23.5", "23.0")),
    Case("FID too high", f"{CHECK}.accuracy.fid", score("23.5", "23.96")),
    Case("score not finite", f"{CHECK}.accuracy.form", score("23.5", "nan")),
    Case("double quotes", f"{CHECK}.accuracy.form", score("'", '"')),
    Case("no scenario Offline", "submission.scenarios", gone(OFFLINE)),
    Case("unknown scenario", "submission.scenarios", copied(OFFLINE, OFFLINE.with_name("Batch"))),
    Case(
        "scenario's folder misnamed",
        "submission.scenarios",
        lambda tree: (tree / OFFLINE).rename(tree / OFFLINE.with_name("Offlin")),
    ),
    Case("README empty", "submission.files.empty", put(OFFLINE / "README.md", "")),
    Case("user.conf empty", "submission.files.empty", put(OFFLINE / "user.conf", "")),
    Case("user.conf gone", "submission.files.missing", gone(OFFLINE / "user.conf")),
    Case(
        "measurements incomplete",
        f"{CHECK}.measurements",
        edit(OFFLINE / "measurements.json", lambda text: text.replace("retraining", "training")),
    ),
    Case("field missing", "submission.system.fields", system(hw_notes=None)),
    Case("field empty", "submission.system.filled", system(cooling="")),
    Case(
        "no accelerators as a number", "submission.system.filled", system(accelerators_per_node=0)
    ),
    Case("nodes in words", "submission.system.types", system(number_of_nodes="two")),
    Case("other division", "submission.system.division", system(division="open")),
    Case("other submitter", "submission.system.submitter", system(submitter="emca")),
    Case("other system type", "submission.system.category", system(system_type="datacenter")),
    Case("system type unknown", "submission.system.category", system(system_type="laptop")),
    Case("status unknown", "submission.system.status", system(status="soon")),
    Case("network system", "submission.system.network", system(is_network="true")),
    Case("no source", "submission.source", gone(ROOT / "src")),
    Case(
        "code for src",
        "submission.source",
        lambda tree: (tree / ROOT / "src").rename(tree / ROOT / "code"),
    ),
    Case("no system description", "submission.system.fields", gone(SYSTEM)),
)
