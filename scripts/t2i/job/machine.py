"""Machine facts that need no root: processor, memory, disk, network, GPUs.

A fact that cannot be read (a container, a virtual machine, another architecture) is absent, never
guessed. Nothing here names the host, its users, addresses or serial numbers.
"""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

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
PCI_FUNCTION = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def machine_facts(
    folder: Path = Path(),
    proc: Path = Path("/proc"),
    sys: Path = Path("/sys"),
    etc: Path = Path("/etc"),
) -> dict[str, Any]:
    """Facts of this machine; `folder` is where results are written, for the disk below it.

    Keys, each absent where unknown: processor {model, sockets, cores_per_socket, threads,
    frequency_mhz, caches}, numa_nodes, virtual (bool), memory_bytes, storage {bytes, type},
    network {cards, kinds}, operating_system, cuda, gpus [{name, driver, memory_mib,
    pcie_generation, pcie_width, clock_mhz}] (empty: none), gpu_links [kinds of nvidia-smi topo].
    """
    gpus = gpu_facts()
    facts = {
        "processor": processor_facts(proc, sys),
        "numa_nodes": len(list(sys.glob("devices/system/node/node[0-9]*"))) or None,
        "virtual": _is_virtual(proc),
        "memory_bytes": _memory_bytes(proc),
        "storage": storage_facts(folder, proc, sys),
        "network": network_facts(sys),
        "operating_system": operating_system(proc, etc),
        "cuda": _cuda_runtime(),
        "gpus": gpus,
        "gpu_links": gpu_links() if len(gpus) > 1 else None,
    }
    return _known(facts) | {"gpus": gpus}


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value not in (None, "", [], {})}


def _read(path: Path) -> str | None:
    """A small file's text, None where it is missing, forbidden or refuses to be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None


def _read_number(path: Path) -> int | None:
    text = _read(path)
    return int(text) if text and re.fullmatch(r"-?\d+", text) else None


def _cpuinfo(proc: Path) -> list[dict[str, str]]:
    """The blocks of /proc/cpuinfo, one for each hardware thread (and others on some systems)."""
    blocks = (_read(proc / "cpuinfo") or "").split("\n\n")
    lines = [[line.partition(":") for line in block.splitlines()] for block in blocks]
    return [{key.strip(): value.strip() for key, _, value in block} for block in lines]


def _is_virtual(proc: Path) -> bool | None:
    """Whether the processor's flags tell of a hypervisor; None where there are no flags (Arm)."""
    flags = [block["flags"].split() for block in _cpuinfo(proc) if "flags" in block]
    return "hypervisor" in flags[0] if flags else None


def processor_facts(proc: Path, sys: Path) -> dict[str, Any]:
    """Model, sockets, cores of a socket, hardware threads, highest frequency, caches."""
    cpus = sorted(sys.glob("devices/system/cpu/cpu[0-9]*"))
    blocks = [block for block in _cpuinfo(proc) if "processor" in block]
    cores = _cores(cpus, blocks)
    sockets = len({package for package, _ in cores})
    frequencies = [_read_number(cpu / "cpufreq/cpuinfo_max_freq") or 0 for cpu in cpus]
    return _known(
        {
            "model": _model(blocks[0]) if blocks else None,
            "sockets": sockets or None,
            "cores_per_socket": len(cores) // sockets if sockets else None,
            "threads": len(blocks) or None,
            "frequency_mhz": max(frequencies, default=0) // 1000 or None,
            "caches": _caches(cpus),
        }
    )


def _model(block: dict[str, str]) -> str | None:
    """The processor's name; Arm gives numbers in its place."""
    if name := block.get("model name"):
        return name
    if {"CPU implementer", "CPU part"} <= block.keys():
        return f"Arm processor {block['CPU implementer']} {block['CPU part']}"
    return None


def _cores(cpus: list[Path], blocks: list[dict[str, str]]) -> set[tuple[str, str]]:
    """Each core as (package, threads or number); empty if packages are unknown."""
    topology = [
        (_read(cpu / "topology/physical_package_id"), _read(cpu / "topology/core_cpus_list"))
        for cpu in cpus  # one that is switched off has no topology
    ]
    cores = {(package, threads) for package, threads in topology if package and threads}
    if any(package.startswith("-") for package, _ in cores):  # firmware that does not tell
        return set()
    told = [(block.get("physical id"), block.get("core id")) for block in blocks]
    return cores or {(package, core) for package, core in told if package and core}


def _caches(cpus: list[Path]) -> list[str]:
    """Caches as `L2 1024K x 8`: size of one and how many there are."""
    shared_by: dict[str, set[str]] = {}
    for cache in (path for cpu in cpus for path in sorted(cpu.glob("cache/index[0-9]*"))):
        parts = [_read(cache / name) for name in ("level", "type", "size", "shared_cpu_list")]
        level, kind, size, shared = parts
        if level and kind and size and shared:
            letter = {"Data": "d", "Instruction": "i"}.get(kind, "")
            shared_by.setdefault(f"L{level}{letter} {size}", set()).add(shared)
    return [f"{name} x {len(shared)}" for name, shared in sorted(shared_by.items())]


def _memory_bytes(proc: Path) -> int | None:
    match = re.search(r"^MemTotal:\s+(\d+) kB", _read(proc / "meminfo") or "", re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def storage_facts(folder: Path, proc: Path, sys: Path) -> dict[str, Any]:
    """Size in bytes and type of the disk or file system that holds `folder`."""
    try:
        space, number = os.statvfs(folder), folder.stat().st_dev
    except OSError:
        return {}
    device = f"{os.major(number)}:{os.minor(number)}"
    return _known(
        {"bytes": space.f_blocks * space.f_frsize, "type": _storage_type(device, proc, sys)}
    )


def _storage_type(device: str, proc: Path, sys: Path) -> str | None:
    filesystem, source = _mount(device, proc)
    block = sys / "dev/block" / device
    if not block.exists() and source.startswith("/dev/"):  # btrfs numbers its devices itself
        block = sys / "class/block" / Path(source).name
    if block.exists():
        return _disk_type(block.resolve())
    return f"{filesystem} file system" if filesystem else None


def _mount(device: str, proc: Path) -> tuple[str, str]:
    """Type and source of the file system with a device number; empty where it is not mounted."""
    for line in (_read(proc / "self/mountinfo") or "").splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2:3] == [device] and len(rest.split()) >= 2:
            filesystem, source = rest.split()[:2]
            return filesystem, source
    return "", ""


def _disk_type(block: Path) -> str | None:
    while below := sorted((block / "slaves").glob("*")):  # encryption, RAID, logical volumes
        block = below[0].resolve()
    disk = block.parent if (block / "partition").exists() else block
    if disk.name.startswith("nvme"):
        return "NVMe SSD"
    if re.match(r"(x?vd|zram|loop)", disk.name):  # the disk below is unknown
        return "virtual disk"
    return {0: "SSD", 1: "HDD"}.get(_read_number(disk / "queue/rotational") or 0)


def network_facts(sys: Path) -> dict[str, Any]:
    """Count of network cards (ports of one card count once), and their kinds with speeds.

    A container with a network of its own sees no card.
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
        number = _read_number(port / "type")
        kind = {ETHERNET: "Ethernet", INFINIBAND: "InfiniBand"}.get(number or 0, "other")
        speed = _read_number(port / "speed") or 0  # -1 where nothing is plugged in
        kinds.add(f"{kind} {speed / 1000:g} Gb/s" if speed > 0 else kind)
    return {"cards": len(cards), "kinds": sorted(kinds)} if (sys / "class/net").is_dir() else {}


def operating_system(proc: Path, etc: Path) -> str | None:
    """Name of the distribution and release of the kernel."""
    release = re.search(r"^PRETTY_NAME=(.*)$", _read(etc / "os-release") or "", re.MULTILINE)
    kernel = _read(proc / "sys/kernel/osrelease")
    parts = [
        " ".join(shlex.split(release[1])) if release else None,
        f"Linux {kernel}" if kernel else None,
    ]
    return ", ".join(part for part in parts if part) or None


def _cuda_runtime() -> str | None:
    for name in CUDA_RUNTIMES:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _ask_driver(*words: str) -> str:
    """What nvidia-smi answers, empty where there is none or it fails."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", *words], check=True, capture_output=True, text=True, timeout=GPU_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout


def gpu_facts() -> list[dict[str, Any]]:
    """Each NVIDIA GPU of the host; memory in MiB, clock (highest of the multiprocessors) in MHz."""
    query = ",".join(GPU_QUERY.values())
    answer = _ask_driver(f"--query-gpu={query}", "--format=csv,noheader,nounits")
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
    answer = re.sub(r"\x1b\[[0-9;]*m", "", _ask_driver("topo", "-m"))
    lines = [line.split() for line in answer.splitlines()]
    rows = [line for line in lines if "X" in line and re.fullmatch(r"GPU\d+", line[0])]
    table = [line[1 : 1 + len(rows)] for line in rows]  # cards of other kinds come after the GPUs
    return sorted({cell for row in table for cell in row} - {"X"})
