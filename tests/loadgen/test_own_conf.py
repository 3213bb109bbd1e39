"""Files in LoadGen's form of the user's own: user.conf by scenario, and audit.config by audit."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadgen_runs import stand_in_test
from t2i.base.files import read_json
from t2i.loadgen.conf import audit_config, own_audit_config, own_settings, read_conf
from t2i.loadgen.logs import read_detail
from t2i.loadgen.run import run_test

CONF = """
# the numbers of two scenarios
*.Offline.target_qps = 500   # images a second
*.*.min_duration = 200
stable-diffusion-xl.Offline.min_query_count = 5
*.Server.target_qps = 3.5
*.Server.target_latency = 15000
*.SingleStream.target_latency = 12.5
llama2-70b.*.target_qps = 1
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "my.conf"
    path.write_text(CONF)
    return path


def test_lines_apply_by_scenario(conf: Path):
    assert own_settings(conf, "Offline") == {"qps": 500.0, "time": 0.2, "min_query_count": 5}
    assert own_settings(conf, "Server") == {"qps": 3.5, "max_latency": 15.0, "time": 0.2}
    assert own_settings(conf, "SingleStream") == {"target_latency": 12.5, "time": 0.2}


def test_a_more_special_and_a_later_line_win(tmp_path: Path):
    path = tmp_path / "a.conf"
    special = "stable-diffusion-xl.Offline.target_qps = 2\n*.Offline.target_qps = 3\n"
    path.write_text(f"{special}*.*.x = 1\n*.*.x = 2\n")
    assert read_conf(path, "Offline") == {"target_qps": 2.0, "x": 2.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("*.*.qsl_rng_seed = 5\n", "qsl_rng_seed is not supported in a user.conf; supported:"),
        ("as usual\n", "a.conf:1: 'as usual' is not MODEL.SCENARIO.KEY = VALUE"),
        ("\n*.Batch.target_qps = 1\n", "a.conf:2: "),
        ("*.*.target_qps = many\n", "a.conf:1: 'many' is not a number"),
        ("*.*.target_qps = -1\n", "a.conf:1: '-1' is not a number"),
    ],
)
def test_other_lines_are_refused(tmp_path: Path, text: str, words: str):
    path = tmp_path / "a.conf"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        own_settings(path, "Offline")
    assert words in str(caught.value)


def test_a_test_is_run_by_it(conf: Path, tmp_path: Path):
    request = replace(stand_in_test(tmp_path), time=30.0, user_conf=conf)
    run_test(request, tmp_path / "run")
    facts = read_json(tmp_path / "run/run.json")
    assert facts["settings"]["qps"] == 500.0 and facts["settings"]["time"] == 0.2
    assert {"qps", "min_query_count"} <= set(facts["given"])
    detail = read_detail(tmp_path / "run/mlperf_log_detail.txt")
    assert detail.get("effective_target_qps") == 500.0
    assert detail.get("effective_min_duration_ms") == 200
    assert detail.get("requested_min_query_count") == 5


def test_an_audit_is_run_by_an_audit_config_of_the_users_own(tmp_path: Path):
    own = tmp_path / "audit.config"
    own.write_text(audit_config("TEST04", 7).replace("same_index = 3", "same_index = 5"))
    request = replace(stand_in_test(tmp_path), mode="TEST04", audit_conf=own)
    run_test(request, tmp_path / "run")
    detail = read_detail(tmp_path / "run/mlperf_log_detail.txt")
    assert detail.get("effective_performance_issue_same_index") == 5


@pytest.mark.parametrize(
    ("test", "text", "words"),
    [
        ("TEST01", "*.*.mode = 1\n", "mode = 2 is missing; TEST01 runs in performance mode"),
        ("TEST01", "*.*.accuracy_log_rng_seed = 1\n", "*.*.mode = 2 is missing"),
        ("TEST01", "*.*.mode = 2\n*.*.performance_issue_same = 1\n", "not a setting of TEST01"),
        ("TEST04", "*.*.mode = 2\n*.*.target_qps = 9\n", "target_qps is not a setting of TEST04"),
        ("TEST04", "mode 2\n", "is not MODEL.SCENARIO.KEY = VALUE"),
    ],
)
def test_other_audit_configs_are_refused(tmp_path: Path, test: str, text: str, words: str):
    path = tmp_path / "audit.config"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        own_audit_config(path, test)
    assert words in str(caught.value)
