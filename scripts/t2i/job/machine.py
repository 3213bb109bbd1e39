"""Machine facts that need no root: processor, memory, disk, network, GPUs.

A fact that cannot be read (a container, a virtual machine, another architecture) is absent, never
guessed. Nothing here names the host, its users, addresses or serial numbers.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

SCHEMA = 1  # of what this module writes into files; part of the code digest of rules that use it

GPU_SECONDS = 60.0  # nvidia-smi needs some seconds per GPU where the driver is not kept loaded
GPU_QUERY = {
    "name": "name",
    "driver": "driver_version",
    "memory_mib": "memory.total",
    "pcie_generation": "pcie.link.gen.max",
    "pcie_width": "pcie.link.width.max",
    "clock_mhz": "clocks.max.sm",
}
GPU_TEXT = ("name", "driver")
CUDA_RUNTIMES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu13", "nvidia-cuda-runtime-cu12")
ETHERNET, INFINIBAND = 1, 32  # ARPHRD_* of Linux's if_arp.h
CACHE = re.compile(r"L\d[di]?")
PCI_FUNCTION = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def machine_facts(folder: Path = Path(), sys: Path = Path("/sys")) -> dict[str, Any]:
    """Facts of this machine; `folder` is where results are written, for the disk below it.

    Keys, each absent where unknown: processor {model, sockets, cores_per_socket, threads,
    frequency_mhz, caches}, numa_nodes, virtual (bool), memory_bytes, storage {bytes, type},
    network {cards, kinds}, operating_system, cuda, gpus [{name, driver, memory_mib,
    pcie_generation, pcie_width, clock_mhz}] (empty: none), gpu_links [kinds of nvidia-smi topo].
    """
    gpus = gpu_facts()
    facts = {
        **processor_facts(),
        "memory_bytes": psutil.virtual_memory().total,
        "storage": storage_facts(folder),
        "network": network_facts(sys),
        "operating_system": operating_system(),
        "cuda": _cuda_runtime(),
        "gpus": gpus,
        "gpu_links": gpu_links() if len(gpus) > 1 else None,
    }
    return _known(facts) | {"gpus": gpus}


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value not in (None, "", [], {})}


def _output(*command: str, seconds: float = 10.0) -> str:
    """What a command prints; empty if it is missing, fails or hangs."""
    try:
        answer = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout


def processor_facts() -> dict[str, Any]:
    """`processor`, `numa_nodes` and `virtual` of `machine_facts`, as lscpu reports them.

    A cache is written `L2 1 MiB (8 instances)`. Arm firmware often hides sockets: lscpu prints "-".
    """
    fields: dict[str, str] = {}
    pending = json.loads(_output("lscpu", "-J") or '{"lscpu": []}')["lscpu"]
    while pending:  # newer versions nest fields
        entry = pending.pop(0)
        fields.setdefault(entry["field"].rstrip(":"), entry["data"] or "")
        pending += entry.get("children", [])
    if not fields:
        return {}

    def number(field: str) -> int | None:
        text = fields.get(field, "").partition(".")[0]
        return int(text) if text.isdigit() else None

    caches = [(name.removesuffix(" cache"), size) for name, size in fields.items()]
    return _known(
        {
            "processor": _known(
                {
                    "model": fields.get("Model name"),
                    "sockets": number("Socket(s)"),
                    "cores_per_socket": number("Core(s) per socket"),
                    "threads": number("CPU(s)"),
                    "frequency_mhz": number("CPU max MHz"),
                    "caches": [f"{name} {size}" for name, size in caches if CACHE.fullmatch(name)],
                }
            ),
            "numa_nodes": number("NUMA node(s)"),
            # Without the flags of x86, nothing found does not mean that there is nothing.
            "virtual": "Hypervisor vendor" in fields
            or (False if fields.get("Architecture") == "x86_64" else None),
        }
    )


def storage_facts(folder: Path) -> dict[str, Any]:
    """Size in bytes and type of the disk or file system that holds `folder`."""
    try:
        total = psutil.disk_usage(str(folder)).total
    except OSError:
        return {}
    return _known({"bytes": total, "type": _storage_type(folder)})


def _storage_type(folder: Path) -> str | None:
    mount = _output("findmnt", "-J", "-v", "-o", "SOURCE,FSTYPE", "-T", str(folder))
    if not mount:
        return None
    filesystem = json.loads(mount)["filesystems"][0]
    # From the volume down to the disk: encryption, RAID and logical volumes lie between.
    chain = _output("lsblk", "-J", "-s", "-o", "NAME,ROTA", filesystem["source"])
    if not chain:
        return f"{filesystem['fstype']} file system"
    disk = json.loads(chain)["blockdevices"][0]
    while "children" in disk:
        disk = disk["children"][0]
    if disk["name"].startswith("nvme"):
        return "NVMe SSD"
    if re.match(r"(x?vd|zram|loop)", disk["name"]):  # the disk below is unknown
        return "virtual disk"
    return "HDD" if disk["rota"] else "SSD"


def _number(path: Path) -> int:
    """The number in a small file; 0 where it is missing or refuses to be read."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def network_facts(sys: Path) -> dict[str, Any]:
    """Count of network cards (ports of one card count once), and their kinds with speeds.

    A container with its own network sees no card.
    """
    cards, kinds = set(), set()
    for port in sorted(sys.glob("class/net/*")):
        if not (port / "device").exists():
            continue
        device = (port / "device").resolve()
        while device.name.startswith("virtio"):
            device = device.parent
        function = PCI_FUNCTION.fullmatch(device.name)
        cards.add(device.name.rpartition(".")[0] if function else str(device))
        kind = {ETHERNET: "Ethernet", INFINIBAND: "InfiniBand"}.get(_number(port / "type"), "other")
        speed = _number(port / "speed")  # -1 where nothing is plugged in
        kinds.add(f"{kind} {speed / 1000:g} Gb/s" if speed > 0 else kind)
    return {"cards": len(cards), "kinds": sorted(kinds)} if (sys / "class/net").is_dir() else {}


def operating_system() -> str:
    """Name of the distribution, where it has one, and release of the kernel."""
    kernel = f"Linux {platform.release()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    except OSError:
        return kernel


def _cuda_runtime() -> str | None:
    for name in CUDA_RUNTIMES:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def gpu_facts() -> list[dict[str, Any]]:
    """Each NVIDIA GPU of the host; memory in MiB, clock (highest of the multiprocessors) in MHz."""
    query = ",".join(GPU_QUERY.values())
    answer = _output(
        "nvidia-smi",
        f"--query-gpu={query}",
        "--format=csv,noheader,nounits",
        seconds=GPU_SECONDS,
    )
    gpus = []
    for row in csv.reader(answer.splitlines(), skipinitialspace=True):
        if len(row) != len(GPU_QUERY):
            continue
        gpu: dict[str, Any] = {}
        for key, text in zip(GPU_QUERY, row, strict=True):
            if key in GPU_TEXT:
                gpu[key] = text.strip()
            elif text.strip().isdigit():  # else [N/A]
                gpu[key] = int(text)
        gpus.append(gpu)
    return gpus


def gpu_links() -> list[str]:
    """How the GPUs are joined, by nvidia-smi's abbreviations (NV18, PIX, SYS...), each once."""
    answer = re.sub(r"\x1b\[[0-9;]*m", "", _output("nvidia-smi", "topo", "-m", seconds=GPU_SECONDS))
    lines = [line.split() for line in answer.splitlines()]
    rows = [line for line in lines if "X" in line and re.fullmatch(r"GPU\d+", line[0])]
    table = [line[1 : 1 + len(rows)] for line in rows]  # cards of other kinds come after the GPUs
    return sorted({cell for row in table for cell in row} - {"X"})
