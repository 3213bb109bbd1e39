import ast
from typing import Any

import pytest

from fake_system import DESCRIPTION, GPU, MACHINE, SOFTWARE, SUBMISSION, WITH_GPUS
from t2i.submission.system import (
    FIELDS,
    NEVER_KNOWN,
    NOT_EMPTY,
    missing_fields,
    submission_problems,
    system_description,
    unknown_fields,
)


def described(machine=MACHINE, accelerators=0, notes="", **description) -> dict[str, Any]:
    submission = {**SUBMISSION, "description": {**DESCRIPTION, **description}}
    return system_description("closed", submission, machine, SOFTWARE, accelerators, notes)


def test_a_system_of_processors():
    system = described()
    assert list(system) == list(FIELDS) and len(system) == 35
    assert all(system[name] for name in NOT_EMPTY)
    assert system["accelerators_per_node"] == "0"
    assert system["accelerator_model_name"] == system["accelerator_interconnect"] == "N/A"
    assert system["host_processors_per_node"] == 2
    assert system["host_processor_core_count"] == 56
    assert system["host_processor_frequency"] == "up to 3700 MHz"
    assert system["host_memory_capacity"] == "512 GiB"
    assert system["host_storage_capacity"] == "1920 GB"
    assert system["host_network_card_count"] == 2
    assert system["framework"] == "PyTorch 2.11.0"
    assert system["other_software_stack"] == "Python 3.11.9, diffusers 0.30.3"
    assert system["hw_notes"] == "virtual machine; network cards seen: Ethernet 25 Gb/s"
    assert (system["division"], system["submitter"]) == ("closed", "acme")
    assert (system["system_name"], system["system_type"]) == ("my-box", "edge")


def test_a_system_of_gpus():
    system = described(WITH_GPUS, 2)
    assert system["accelerators_per_node"] == 2
    assert system["accelerator_model_name"] == "NVIDIA H100 80GB HBM3"
    assert system["accelerator_memory_capacity"] == "80 GiB"
    assert system["accelerator_memory_configuration"] == "HBM3"
    assert system["accelerator_host_interconnect"] == "PCIe Gen5 x16"
    assert system["accelerator_frequency"] == "up to 1980 MHz"
    assert system["accelerator_interconnect"] == "NVLink"
    assert system["accelerator_interconnect_topology"] == "NV18"
    assert system["other_software_stack"].endswith("CUDA 12.8.90, NVIDIA driver 570.86.15")
    assert described(WITH_GPUS, 1)["accelerator_interconnect"] == "N/A"
    slow = {**WITH_GPUS, "gpu_links": ["PIX", "SYS"]}
    assert described(slow, 2)["accelerator_interconnect"] == "PCIe"


def test_the_description_wins_over_the_machine():
    system = described(host_processor_model_name="Better", system_name="My box", disk_drives="4")
    assert system["host_processor_model_name"] == "Better"
    assert system["system_name"] == "My box"
    assert system["disk_drives"] == "4"


def test_no_count_is_the_number_that_the_checker_takes_for_empty():
    assert described(WITH_GPUS, 2, accelerators_per_node=0)["accelerators_per_node"] == "0"
    none = described({**MACHINE, "network": {"cards": 0, "kinds": []}})
    assert none["host_network_card_count"] == "none visible"


def test_notes_follow_those_of_the_description():
    assert described(notes="A REHEARSAL.")["sw_notes"] == "A REHEARSAL."
    assert described(notes="A REHEARSAL.", sw_notes="tuned")["sw_notes"] == "tuned; A REHEARSAL."


def test_a_configuration_is_told_at_once_what_no_machine_tells():
    assert missing_fields({}) == [name for name in NOT_EMPTY if name in NEVER_KNOWN]
    assert set(missing_fields({})) == set(NEVER_KNOWN)
    assert missing_fields(DESCRIPTION) == []
    assert missing_fields({**DESCRIPTION, "cooling": " "}) == ["cooling"]


def test_what_this_machine_does_not_tell_is_named_too():
    assert missing_fields(DESCRIPTION, MACHINE) == []
    poor = {key: value for key, value in MACHINE.items() if key != "storage"}
    named = ["host_storage_capacity", "host_storage_type"]
    assert missing_fields(DESCRIPTION, poor) == named
    unnamed = {**WITH_GPUS, "gpus": [{**GPU, "name": "NVIDIA L4"}]}
    assert missing_fields(DESCRIPTION, unnamed, 1) == ["accelerator_memory_configuration"]
    unlinked = {**WITH_GPUS, "gpu_links": []}
    assert missing_fields(DESCRIPTION, unlinked, 2) == ["accelerator_interconnect"]
    with pytest.raises(
        ValueError, match=r"description\.host_storage_type: missing; it was not detected"
    ):
        described(poor)


def test_unknown_fields_are_named_with_the_nearest_one():
    found = dict(unknown_fields({"coolin": "air", "xyzzy": "1", "status": "rdi", "hw_notes": ""}))
    assert found == {
        "coolin": "; did you mean 'cooling'?",
        "xyzzy": "",
        "status": " that may be given here: it is `submission.status`",
    }


def test_all_problems_come_together():
    wrong = {
        "submitter": "../acme",
        "system": "my box",
        "system_type": "cloud",
        "status": "soon",
        "description": {"coolin": "air", "number_of_nodes": "two"},
    }
    keys = [problem.partition(":")[0] for problem in submission_problems(wrong)]
    assert keys == [
        "submission.description.coolin",
        "submission.submitter",
        "submission.system",
        "submission.status",
        "submission.system_type",
        "submission.description.number_of_nodes",
        *(f"submission.description.{name}" for name in missing_fields({})),
    ]
    with pytest.raises(ValueError) as error:
        system_description("open", wrong, MACHINE, SOFTWARE, 0)
    assert all(key in str(error.value) for key in keys)
    assert submission_problems(SUBMISSION) == []
    given = {"submitter": "acme", "system": "my-box", "description": DESCRIPTION}
    assert submission_problems(given) == []
    assert system_description("open", given, MACHINE, SOFTWARE, 0)["status"] == "available"


def test_fields_are_those_of_the_submission_checker(inference_checkout):
    path = inference_checkout / "tools/submission/submission_checker/constants.py"
    values = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name.startswith(("SYSTEM_DESC_", "VALID_AVAIL")) and isinstance(
                node.value, ast.List
            ):
                values[name] = [getattr(part, "value", None) for part in node.value.elts]
    assert set(values["SYSTEM_DESC_REQUIRED_FIELDS"]) == set(FIELDS)
    assert set(values["SYSTEM_DESC_MEANINGFUL_RESPONSE_REQUIRED_FIELDS"]) == set(NOT_EMPTY)
    assert values["VALID_AVAILABILITIES"] == ["available", "preview", "rdi"]
