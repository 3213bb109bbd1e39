"""The system description of a submission: what can be detected, and what only its owner knows.

Field names and which of them may not be empty: constants.py of the submission checker
(mlcommons/inference at b66003e1).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

GIVEN_ELSEWHERE = {
    "division": "division",
    "submitter": "submission.submitter",
    "status": "submission.status",
    "system_type": "submission.system_type",
}
NOT_EMPTY = (
    *GIVEN_ELSEWHERE,
    "system_name",
    "number_of_nodes",
    "host_processor_model_name",
    "host_processors_per_node",
    "host_processor_core_count",
    "host_memory_capacity",
    "host_memory_configuration",
    "host_storage_capacity",
    "host_storage_type",
    "host_networking",
    "host_network_card_count",
    "host_networking_topology",
    "accelerators_per_node",
    "accelerator_model_name",
    "accelerator_memory_capacity",
    "accelerator_host_interconnect",
    "accelerator_memory_configuration",
    "accelerator_interconnect",
    "cooling",
    "framework",
    "operating_system",
    "other_software_stack",
)
MAY_BE_EMPTY = (
    "host_processor_frequency",
    "host_processor_caches",
    "host_processor_interconnect",
    "accelerator_frequency",
    "accelerator_interconnect_topology",
    "accelerator_on-chip_memories",
    "hw_notes",
    "sw_notes",
    "system_type_detail",
)
FIELDS = (*NOT_EMPTY, *MAY_BE_EMPTY)
# Fields of submissions that measure power, which others may give too.
OPTIONAL = (
    "power_management",
    "filesystem",
    "boot_firmware_version",
    "management_firmware_version",
    "other_hardware",
    "number_of_type_nics_installed",
    "nics_enabled_firmware",
    "nics_enabled_os",
    "nics_enabled_connected",
    "network_speed_mbit",
    "power_supply_quantity_and_rating_watts",
    "power_supply_details",
    "disk_drives",
    "disk_controllers",
)
COUNTS = ("number_of_nodes", "accelerators_per_node")
# Linux sees network cards, but not whether and how a system uses them for its work.
NEVER_KNOWN = (
    "cooling",
    "host_memory_configuration",
    "host_networking",
    "host_networking_topology",
)
ACCELERATOR = tuple(name for name in FIELDS if name.startswith("accelerator_"))
CHOICES = {  # the first one is meant where none is given
    "status": ("available", "preview", "rdi"),
    "system_type": ("edge", "datacenter", "datacenter,edge", "edge,datacenter"),
}
NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]*")
NONE = "N/A"
STACK = {
    "python": "Python",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "mlcommons-loadgen": "MLPerf LoadGen",
}


def unknown_fields(description: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys that a description may not hold, each with a hint (perhaps empty) at what to do."""
    allowed = [name for name in (*FIELDS, *OPTIONAL) if name not in GIVEN_ELSEWHERE]
    for name in description:
        if name in GIVEN_ELSEWHERE:
            yield name, f" that may be given here: it is `{GIVEN_ELSEWHERE[name]}`"
        elif name not in allowed:
            close = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0.4)
            yield name, f"; did you mean {close[0]!r}?" if close else ""


def missing_fields(
    description: dict[str, Any], machine: dict[str, Any] | None = None, accelerators: int = 0
) -> list[str]:
    """Fields that must not be empty and that are neither in `description` nor detected.

    Without a machine only those that cannot be detected, so that a configuration can be refused
    before anything is run. The rest of the arguments are those of `system_description`.
    """
    known: dict[str, Any] = dict.fromkeys(NOT_EMPTY, "known later")
    known |= dict.fromkeys(NEVER_KNOWN, "")
    if machine is not None:
        known |= _detected(machine, accelerators)
    known |= description
    return [name for name in NOT_EMPTY if not str(known[name]).strip()]


def system_description(
    division: str,
    submission: dict[str, Any],
    machine: dict[str, Any],
    software: dict[str, str],
    accelerators: int,
    notes: str = "",
) -> dict[str, Any]:
    """The content of systems/<system>.json: all 35 fields, each a text or a count.

    `submission` is that of the configuration, `machine` is from `t2i.job.machine`,
    `software` from `t2i.job.software`; `accelerators` is the number of GPUs used, 0 for a run on
    processors. `notes` come after the description's own sw_notes. Raises ValueError with everything
    that is wrong or missing. There is no field is_network: any value, even "false", makes
    the checker ask for the fields of a network submission.
    """
    description = submission.get("description", {})
    if problems := submission_problems(submission, machine, accelerators):
        raise ValueError("\n".join(["the system cannot be described:", *problems]))
    texts: dict[str, Any] = {
        "division": division,
        "submitter": submission["submitter"],
        **{key: submission.get(key, choices[0]) for key, choices in CHOICES.items()},
        "system_name": submission["system"],
        "framework": _framework(software),
        "other_software_stack": _stack(machine, software),
        **_detected(machine, accelerators),
        **description,
    }
    texts["sw_notes"] = "; ".join(text for text in (texts.get("sw_notes"), notes) if text)
    names = [*FIELDS, *(name for name in OPTIONAL if name in description)]
    # The checker takes the number 0 for an empty field, the text "0" for a count.
    return {name: texts.get(name, "") if texts.get(name) != 0 else "0" for name in names}


def submission_problems(
    submission: dict[str, Any], machine: dict[str, Any] | None = None, accelerators: int = 0
) -> list[str]:
    """Everything that is wrong with or missing from a configuration's `submission`.

    Each is a message that begins with the key. Without a machine they are those that are known
    before anything is run; the rest of the arguments are those of `system_description`.
    """
    description = submission.get("description", {})
    problems = [
        f"submission.description.{name}: no field of MLPerf's system description{hint}"
        for name, hint in unknown_fields(description)
    ]
    for key in ("submitter", "system"):
        if not NAME.fullmatch(str(submission.get(key, ""))):
            problems.append(
                f"submission.{key}: got {submission.get(key)!r}; it names a folder, so use "
                "letters, digits, '.', '_' and '-', and begin with a letter or digit"
            )
    for key, (default, *others) in CHOICES.items():
        if submission.get(key, default) not in (default, *others):
            allowed = ", ".join(map(repr, (default, *others)))
            problems.append(f"submission.{key}: got {submission[key]!r}; expected one of {allowed}")
    for name in COUNTS:
        if name in description and not re.fullmatch("[0-9]+", str(description[name])):
            problems.append(
                f"submission.description.{name}: got {description[name]!r}; expected a whole number"
            )
    for name in missing_fields(description, machine, accelerators):
        why = "it cannot be detected" if name in NEVER_KNOWN else "it was not detected here"
        problems.append(
            f"submission.description.{name}: missing; {why}, please describe it ('N/A' where there "
            "is not one)"
        )
    return problems


def _detected(machine: dict[str, Any], accelerators: int) -> dict[str, Any]:
    """Detected fields; empty texts for those that could not be detected here."""
    processor, network = machine.get("processor", {}), machine.get("network", {})
    storage = machine.get("storage", {})
    sockets, memory = processor.get("sockets"), machine.get("memory_bytes")
    frequency, disk = processor.get("frequency_mhz"), storage.get("bytes")
    visible = ", ".join(network.get("kinds", []))
    notes = [
        "virtual machine" if machine.get("virtual") else "",
        f"network cards seen: {visible}" if visible else "",
    ]
    return {
        "number_of_nodes": 1,
        "host_processor_model_name": processor.get("model", ""),
        "host_processors_per_node": sockets or "",
        "host_processor_core_count": processor.get("cores_per_socket", ""),
        "host_processor_frequency": f"up to {frequency} MHz" if frequency else "",
        "host_processor_caches": ", ".join(processor.get("caches", [])),
        "host_processor_interconnect": NONE if sockets == 1 else "",
        "host_memory_capacity": f"{memory / 2**30:.0f} GiB" if memory else "",
        "host_storage_capacity": f"{disk / 1e9:.0f} GB" if disk else "",
        "host_storage_type": storage.get("type", ""),
        # 0 cards is what a container with its own network sees.
        "host_network_card_count": network["cards"] or "none visible" if network else "",
        "operating_system": machine.get("operating_system", ""),
        "hw_notes": "; ".join(note for note in notes if note),
        **_accelerator(machine, accelerators),
    }


def _accelerator(machine: dict[str, Any], accelerators: int) -> dict[str, Any]:
    if accelerators == 0:
        return {"accelerators_per_node": "0", **dict.fromkeys(ACCELERATOR, NONE)}
    gpu: dict[str, Any] = next(iter(machine.get("gpus", [])), {})
    memory, clock = gpu.get("memory_mib"), gpu.get("clock_mhz")
    generation, width = gpu.get("pcie_generation"), gpu.get("pcie_width")
    kind = re.search(r"\b(HBM|GDDR)\d\w*", gpu.get("name", ""))
    links = machine.get("gpu_links", [])
    nvlink = any(link.startswith("NV") for link in links)
    joined = "NVLink" if nvlink else "PCIe" if links else ""
    return {
        **dict.fromkeys(ACCELERATOR, ""),
        "accelerators_per_node": accelerators,
        "accelerator_model_name": gpu.get("name", ""),
        "accelerator_memory_capacity": f"{memory / 1024:.0f} GiB" if memory else "",
        "accelerator_memory_configuration": kind[0] if kind else "",
        "accelerator_frequency": f"up to {clock} MHz" if clock else "",
        "accelerator_host_interconnect": (
            f"PCIe Gen{generation} x{width}" if generation and width else ""
        ),
        "accelerator_interconnect": NONE if accelerators == 1 else joined,
        "accelerator_interconnect_topology": NONE if accelerators == 1 else ", ".join(links),
    }


def _framework(software: dict[str, str]) -> str:
    return f"PyTorch {software['torch']}" if "torch" in software else "none (no model)"


def _stack(machine: dict[str, Any], software: dict[str, str]) -> str:
    parts = [f"{label} {software[name]}" for name, label in STACK.items() if name in software]
    if "cuda" in machine:
        parts.append(f"CUDA {machine['cuda']}")
    drivers = {gpu["driver"] for gpu in machine.get("gpus", []) if gpu.get("driver")}
    return ", ".join([*parts, *(f"NVIDIA driver {driver}" for driver in sorted(drivers))])
