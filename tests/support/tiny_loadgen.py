"""Real runs of LoadGen for a fraction of a second, against a system that answers at once."""

import array
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from t2i.loadgen import conf, test_object
from t2i.mlperf import ROUNDS

RATE = 2000.0  # samples/s
SECONDS = 0.15
COUNT = 16
# As many as early stopping needs, so that the results are valid.
QUERIES = {"MultiStream": 662, "Server": 460, "SingleStream": None, "Offline": None}


def request(scenario: str, mode: str, **changes: Any) -> dict[str, Any]:
    """What a run is asked for; `changes` replace single values."""
    return {
        "scenario": scenario,
        "mode": mode,
        "round": "v5.0",
        "count": COUNT,
        "time": SECONDS,
        "qps": RATE,
        "target_latency": 1000 / RATE,
        "samples_per_query": 8,
        "max_latency": 20.0,
        "min_query_count": QUERIES[scenario],
    } | changes


def start(folder: Path, asked: dict[str, Any]) -> subprocess.Popen:
    """Start one run of LoadGen, in its own process, with its logs in `folder`."""
    folder.mkdir(parents=True)
    command = [sys.executable, __file__, str(folder), json.dumps(asked)]
    path = str(Path(conf.__file__).parents[2])
    return subprocess.Popen(command, env={"PYTHONPATH": path})


def issued(folder: Path) -> list[list[int]]:
    """The sample indices of each query that the system got."""
    return json.loads((folder / "issued.json").read_text())


def _main(folder: Path, asked: dict[str, Any]) -> None:
    import mlperf_loadgen as lg

    user_conf, audit = folder / "user.conf", folder / "audit.config"
    names = ("count", "time", "qps", "target_latency", "samples_per_query", "max_latency")
    given = {name: asked[name] for name in (*names, "min_query_count")}
    user_conf.write_text(conf.user_conf(asked["scenario"], **given))
    if asked["mode"].startswith("TEST"):
        audit.write_text(conf.audit_config(asked["mode"], asked["count"]))
    queries: list[list[int]] = []
    data = array.array("B", b"abc")
    address, size = data.buffer_info()

    def issue(samples: list) -> None:
        queries.append([sample.index for sample in samples])
        together = len(samples) if asked["scenario"] == "Offline" else 1
        time.sleep(0 if asked["scenario"] == "Server" else together / RATE)
        lg.QuerySamplesComplete([lg.QuerySampleResponse(s.id, address, size) for s in samples])

    seeds = ROUNDS[asked["round"]].seeds
    test = test_object.test_settings(user_conf, asked["scenario"], asked["mode"], seeds)
    sut = lg.ConstructSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(asked["count"], asked["count"], lambda _: None, lambda _: None)
    logs, output = lg.LogSettings(), lg.LogOutputSettings()
    output.outdir = str(folder)
    logs.log_output = output
    lg.StartTestWithLogSettings(sut, qsl, test, logs, str(audit))
    (folder / "issued.json").write_text(json.dumps(queries))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), json.loads(sys.argv[2]))
