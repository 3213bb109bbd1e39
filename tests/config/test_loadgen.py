"""What a configuration may ask of LoadGen and of the submission is checked before the first job."""

import pytest

from configurations import CONFIG, DEMO, MLPERF, SCHEMA, TABLE, changed, mistakes, only_mistake
from t2i.base.yaml import read_yaml
from t2i.config.check import checked_config
from t2i.config.derive import (
    inferred_scenarios,
    loadgen_settings,
    loadgen_variants,
    needed_sources,
    submitted_scenarios,
    variant_model,
)
from t2i.fetch.table import read_sources
from t2i.mlperf import ROUNDS, image_ids, required_scenarios
from t2i.submission.system import NEVER_KNOWN

DESCRIPTION = dict.fromkeys(NEVER_KNOWN, "not stated")
CLOSED = changed(
    MLPERF,
    {"submission": {"submitter": "acme", "system": "box", "description": DESCRIPTION}},
)


def test_rehearsal_is_valid_and_needs_no_weights():
    config = checked_config(read_yaml(CONFIG / "rehearsal.yaml"), SCHEMA, TABLE)
    assert variant_model(config, "stand-in") == "stand-in"
    assert not [
        name
        for name in needed_sources(config, read_sources(TABLE))
        if name.startswith("micro-sdxl/unet")
    ]


def test_the_official_run_can_be_submitted():
    config = checked_config(CLOSED, SCHEMA, TABLE)
    assert loadgen_variants(config) == ["fp16"]
    settings = loadgen_settings(config, "fp16")
    assert settings["count"] == 5000
    assert settings["time"] == 600
    assert settings["given"] == []


def test_offline_may_be_inferred_where_it_is_not_run():
    changes = {"submission.infer_offline": True, "loadgen.scenarios": ["SingleStream"]}
    config = checked_config(changed(CLOSED, changes), SCHEMA, TABLE)
    assert submitted_scenarios(config) == ["SingleStream"]
    assert inferred_scenarios(config) == {"Offline": "SingleStream"}
    assert inferred_scenarios(checked_config(CLOSED, SCHEMA, TABLE)) == {}


@pytest.mark.parametrize(
    ("changes", "config", "words"),
    [
        ({"loadgen.variants": ["fp23"]}, DEMO, ["loadgen.variants", "fp23", "fp32, bf16"]),
        ({"loadgen.count": 129}, DEMO, ["loadgen.count", "129", "128 samples"]),
        ({"loadgen.scenarios": ["Ofline"]}, DEMO, ["did you mean 'Offline'"]),
        ({"loadgen.part_iii": True}, DEMO, ["loadgen.part_iii", "add TEST01"]),
        ({"sharded": False, "loadgen.modes": ["accuracy"], "submission": None}, DEMO, ["sharded"]),
        (
            {"loadgen.audit_conf": {"TEST01": "no/such/file"}},
            DEMO,
            ["loadgen.audit_conf.TEST01", "no/such/file"],
        ),
        ({"submission.infer_offline": True}, DEMO, ["submission.infer_offline", "take it out"]),
        (
            {
                "submission.infer_offline": True,
                "submission.system_type": "datacenter,edge",
                "loadgen.scenarios": ["SingleStream", "Server"],
                "round": "v5.1",
            },
            DEMO,
            ["submission.infer_offline", "only an edge system"],
        ),
        ({"loadgen.user_conf": "no/such/file"}, DEMO, ["loadgen.user_conf", "no/such/file"]),
        ({"loadgen.time": 0}, DEMO, ["loadgen.time", "more than 0"]),
        ({"loadgen.qps": "fast"}, DEMO, ["loadgen.qps", "a finite number"]),
        ({"loadgen.modes": ["accuracy", "accuracy"]}, DEMO, ["loadgen.modes", "nothing twice"]),
        ({"submission.description.cooling": None}, DEMO, ["cooling", "missing"]),
        ({"submission.description.coolling": "air"}, DEMO, ["coolling", "did you mean 'cooling'"]),
        ({"submission.submitter": "a/b"}, DEMO, ["submission.submitter", "a/b"]),
        ({"loadgen.scenarios": ["Offline"]}, DEMO, ["loadgen.scenarios", "needs SingleStream"]),
        ({"loadgen.time": 599}, CLOSED, ["loadgen.time", "599", "at least 600"]),
        ({"loadgen.count": 4999}, CLOSED, ["loadgen.count", "4999"]),
        ({"loadgen.max_latency": 21}, CLOSED, ["loadgen.max_latency", "at most 20"]),
        ({"loadgen.modes": ["performance", "accuracy"]}, CLOSED, ["TEST01, TEST04"]),
        (
            {"variants.fp16.stand_in": {"side": 64, "images_per_second": 1}},
            CLOSED,
            ["variants.fp16.stand_in", "closed division"],
        ),
        (
            {
                "rehearsal": True,
                "variants.bf16.backend": "reference",
                "variants.bf16.stand_in": {"side": 64, "images_per_second": 1},
            },
            DEMO,
            ["variants.fp32", "stand_in, not with a model"],
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line_that_names_it(changes, config, words):
    line = only_mistake(changes, config)
    assert all(word in line for word in words), line


def test_modes_without_what_they_are_measured_against():
    lines = mistakes(changed(DEMO, {"loadgen.modes": ["TEST01", "FindPeakPerformance"]}))
    assert any("TEST01 compares" in line for line in lines)
    assert any("TEST01 is measured against" in line for line in lines)
    assert any("for Server alone" in line for line in lines)


def test_all_missing_fields_are_told_at_once():
    lines = mistakes(changed(DEMO, {"submission.description": {}}))
    assert {line.split(":")[0].rpartition(".")[2] for line in lines} == set(NEVER_KNOWN)


def test_nothing_to_submit_without_loadgen():
    assert "without `loadgen`" in only_mistake({"loadgen": None})


@pytest.mark.parametrize("round_name", ["v6.0", "v6.1"])
def test_closed_datacenter_is_refused_with_the_reason(round_name):
    line = only_mistake({"submission.system_type": "datacenter", "round": round_name}, CLOSED)
    assert "checker has no entry" in line
    assert "v5.1" in line
    assert required_scenarios(round_name, "open", "datacenter") == ("Server", "Offline")


def test_datacenter_of_an_older_round_wants_server():
    changes = {"submission.system_type": "datacenter", "round": "v5.1"}
    assert "needs Server" in only_mistake(changes, CLOSED)
    checked_config(
        changed(CLOSED, {**changes, "loadgen.scenarios": ["Server", "Offline"]}), SCHEMA, TABLE
    )


def test_image_ids_are_those_of_the_round():
    listed = list(ROUNDS["v6.1"].image_ids)
    assert image_ids(ROUNDS["v6.1"].image_ids, listed) == listed
    assert image_ids(ROUNDS["v5.1"].image_ids, listed) == list(ROUNDS["v5.1"].image_ids)
    assert image_ids(ROUNDS["v5.1"].image_ids, [3, 1]) == [3, 1], "another data set has its own"
    assert all(len(set(found.image_ids)) == 10 for found in ROUNDS.values())


@pytest.mark.shared
def test_image_ids_of_the_latest_round_are_the_published_list(shared_data):
    published = (shared_data / "coco2014/sample_ids.txt").read_text().split()
    assert list(map(int, published)) == list(ROUNDS["v6.1"].image_ids)
