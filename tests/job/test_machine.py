import json
import os
import platform
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fake_system import GPU
from t2i.job.machine import (
    gpu_facts,
    gpu_links,
    machine_facts,
    network_facts,
    operating_system,
    processor_facts,
    storage_facts,
)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts programs of the system into a folder that is searched first: name, shell script."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return put


def lscpu(*fields: tuple[str, str | None], nested: bool = False) -> str:
    """A script that prints lscpu's JSON; newer versions nest the fields."""
    entries = [{"field": f"{name}:", "data": data} for name, data in fields]
    if nested:
        entries = [{"field": "Vendor ID:", "data": "X", "children": entries}]
    return f"cat <<'END'\n{json.dumps({'lscpu': entries})}\nEND"


SERVER = [
    ("Architecture", "x86_64"),
    ("CPU(s)", "8"),
    ("Model name", "Grand CPU 9000"),
    ("Core(s) per socket", "2"),
    ("Socket(s)", "2"),
    ("CPU max MHz", "3700.0000"),
    ("L1d cache", "192 KiB (4 instances)"),
    ("L3 cache", "64 MiB (2 instances)"),
    ("NUMA node(s)", "2"),
    ("NUMA node0 CPU(s)", "0-3"),
]


@pytest.mark.parametrize("nested", [False, True])
def test_sockets_cores_and_caches_of_a_server(programs, nested):
    programs("lscpu", lscpu(*SERVER, nested=nested))
    facts = processor_facts()
    assert facts == {
        "processor": {
            "model": "Grand CPU 9000",
            "sockets": 2,
            "cores_per_socket": 2,
            "threads": 8,
            "frequency_mhz": 3700,
            "caches": ["L1d 192 KiB (4 instances)", "L3 64 MiB (2 instances)"],
        },
        "numa_nodes": 2,
        "virtual": False,
    }


def test_a_hypervisor_makes_a_machine_virtual(programs):
    programs("lscpu", lscpu(*SERVER, ("Hypervisor vendor", "KVM")))
    assert processor_facts()["virtual"] is True


def test_what_firmware_hides_is_not_guessed(programs):
    hidden = [("Architecture", "aarch64"), ("Model name", "Neoverse-V2"), ("Socket(s)", "-")]
    programs("lscpu", lscpu(*hidden, ("Core(s) per socket", None)))
    assert processor_facts() == {"processor": {"model": "Neoverse-V2"}}


def test_missing_programs_are_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    facts = machine_facts(tmp_path, tmp_path / "nothing")
    assert facts.keys() <= {"memory_bytes", "storage", "operating_system", "cuda", "gpus"}
    assert facts["gpus"] == []


def test_this_machine_is_described_without_names():
    facts = machine_facts()
    text = json.dumps(facts)
    assert facts["processor"]["threads"] == os.sysconf("SC_NPROCESSORS_ONLN")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert facts["memory_bytes"] == pytest.approx(pages, rel=0.01)
    assert platform.release() in facts["operating_system"]
    for name in {socket.gethostname(), os.environ.get("USER", ""), os.environ.get("HOME", "")}:
        assert len(name) < 5 or name not in text


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([("nvme0n1p2", False), ("nvme0n1", False)], "NVMe SSD"),
        ([("sda1", True), ("sda", True)], "HDD"),
        ([("sdb", False)], "SSD"),
        ([("vda", True)], "virtual disk"),
        ([("vg-home", False), ("luks-1", False), ("nvme1n1", False)], "NVMe SSD"),
    ],
)
def test_kinds_of_disks(tmp_path, programs, chain, expected):
    device: dict[str, Any] = {}
    for name, rotates in reversed(chain):
        device = {"name": name, "rota": rotates} | ({"children": [device]} if device else {})
    mount = {"filesystems": [{"source": f"/dev/{chain[0][0]}", "fstype": "ext4"}]}
    programs("findmnt", f"echo '{json.dumps(mount)}'")
    programs(
        "lsblk",
        f'for last; do :; done; [ "$last" = /dev/{chain[0][0]} ] || exit 1\n'
        f"echo '{json.dumps({'blockdevices': [device]})}'",
    )
    assert storage_facts(tmp_path) == {
        "bytes": shutil.disk_usage(tmp_path).total,
        "type": expected,
    }


@pytest.mark.parametrize("source", ["files:/home nfs4", "overlay overlay"])
def test_file_systems_without_a_disk(tmp_path, programs, source):
    address, kind = source.split()
    mount = {"filesystems": [{"source": address, "fstype": kind}]}
    programs("findmnt", f"echo '{json.dumps(mount)}'")
    programs("lsblk", "exit 32")
    assert storage_facts(tmp_path)["type"] == f"{kind} file system"


def test_ports_of_a_card_count_once_and_virtual_ones_not(tmp_path):
    ports = {
        "eno1": ("devices/0000:3b:00.0", {"type": "1", "speed": "25000"}),
        "eno2": ("devices/0000:3b:00.1", {"type": "1", "speed": "-1"}),
        "ib0": ("devices/0000:86:00.0", {"type": "32", "speed": "400000"}),
        "eth0": ("devices/0000:00:03.0/virtio2", {"type": "1"}),
    }
    for port, (device, files) in ports.items():
        (tmp_path / device).mkdir(parents=True)
        write(tmp_path / "class/net" / port, files)
        (tmp_path / "class/net" / port / "device").symlink_to(tmp_path / device)
    write(tmp_path / "class/net/lo", {"type": "772"})
    kinds = ["Ethernet", "Ethernet 25 Gb/s", "InfiniBand 400 Gb/s"]
    assert network_facts(tmp_path) == {"cards": 3, "kinds": kinds}


def test_a_container_sees_no_network_card(tmp_path):
    write(tmp_path / "class/net/lo", {"type": "772"})
    assert network_facts(tmp_path) == {"cards": 0, "kinds": []}
    assert network_facts(tmp_path / "hidden") == {}


def test_the_distribution_is_left_out_where_it_has_no_name(monkeypatch):
    def missing() -> dict[str, str]:
        raise FileNotFoundError

    monkeypatch.setattr(platform, "freedesktop_os_release", missing)
    assert operating_system() == f"Linux {platform.release()}"


DRIVER = """case "$1" in
topo) printf '\\tGPU0\\tGPU1\\tNIC0\\tCPU Affinity\\tNUMA Affinity\\n'
      printf '\\033[4mGPU0\\033[0m\\t X \\tNV18\\tPIX\\t0-55\\t0\\n'
      printf 'GPU1\\tNV18\\t X \\tSYS\\t56-111\\t1\\nNIC0\\tPIX\\tSYS\\t X \\n' ;;
*) echo 'NVIDIA H100 80GB HBM3, 570.86.15, 81559, 5, 16, 1980'
   echo 'NVIDIA H100 80GB HBM3, 570.86.15, 81559, [N/A], 16, 1980' ;;
esac"""


def test_gpus_are_those_that_the_driver_lists(programs):
    programs("nvidia-smi", DRIVER)
    first, second = gpu_facts()
    assert first == GPU
    assert second.keys() == first.keys() - {"pcie_generation"}
    assert gpu_links() == ["NV18"]


def test_a_driver_that_fails_means_no_gpu(programs):
    programs("nvidia-smi", "echo 'a, b, c, d, e, f'\nexit 9")
    assert gpu_facts() == [] and gpu_links() == []


def test_a_driver_that_hangs_is_given_up(programs, monkeypatch):
    programs("nvidia-smi", "exec sleep 30")
    monkeypatch.setattr("t2i.job.machine.GPU_SECONDS", 0.2)
    assert gpu_facts() == []
