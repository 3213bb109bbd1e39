import json
import os
import platform
import socket
from itertools import pairwise
from pathlib import Path

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


def thread(number: int, package: int, siblings: str, cache: str = "") -> dict[str, str]:
    cpu = f"devices/system/cpu/cpu{number}"
    return {
        f"{cpu}/topology/physical_package_id": str(package),
        f"{cpu}/topology/core_cpus_list": siblings,
        f"{cpu}/cpufreq/cpuinfo_max_freq": str(3_700_000 - number),
        f"{cpu}/cache/index0/level": "1",
        f"{cpu}/cache/index0/type": "Data",
        f"{cpu}/cache/index0/size": "48K",
        f"{cpu}/cache/index0/shared_cpu_list": siblings,
        f"{cpu}/cache/index3/level": "3",
        f"{cpu}/cache/index3/type": "Unified",
        f"{cpu}/cache/index3/size": "32768K",
        f"{cpu}/cache/index3/shared_cpu_list": "0-3" if package == 0 else "4-7",
    }


def cpuinfo(count: int, **fields: str) -> str:
    blocks = (
        "\n".join(f"{key}\t: {value}" for key, value in {"processor": str(i), **fields}.items())
        for i in range(count)
    )
    return "\n\n".join(blocks)


@pytest.fixture
def server(tmp_path: Path) -> tuple[Path, Path]:
    """proc and sys of two sockets with two cores of two threads each."""
    proc = write(
        tmp_path / "proc",
        {
            "cpuinfo": cpuinfo(8, **{"model name": "Grand CPU 9000", "flags": "fpu sse"}),
            "meminfo": "MemTotal:       1048576 kB\nMemFree: 1 kB",
            "sys/kernel/osrelease": "6.8.0-45-generic",
        },
    )
    siblings = ["0-1", "0-1", "2-3", "2-3", "4-5", "4-5", "6-7", "6-7"]
    files: dict[str, str] = {}
    for number, listed in enumerate(siblings):
        files |= thread(number, number // 4, listed)
    files |= {"devices/system/cpu/cpu8/online": "0"}
    files |= {f"devices/system/node/node{i}/cpulist": "" for i in range(2)}
    return proc, write(tmp_path / "sys", files)


def test_sockets_cores_and_caches_of_a_server(server):
    proc, sys = server
    assert processor_facts(proc, sys) == {
        "model": "Grand CPU 9000",
        "sockets": 2,
        "cores_per_socket": 2,
        "threads": 8,
        "frequency_mhz": 3700,
        "caches": ["L1d 48K x 4", "L3 32768K x 2"],
    }


def test_cores_come_from_cpuinfo_where_sys_is_hidden(tmp_path):
    fields = {"model name": "X", "physical id": "0", "core id": "3"}
    proc = write(tmp_path / "proc", {"cpuinfo": cpuinfo(2, **fields)})
    facts = processor_facts(proc, tmp_path / "sys")
    assert facts == {"model": "X", "sockets": 1, "cores_per_socket": 1, "threads": 2}


def test_firmware_that_does_not_tell_sockets_is_not_guessed(tmp_path):
    arm = {"CPU implementer": "0x41", "CPU part": "0xd0c"}
    proc = write(tmp_path / "proc", {"cpuinfo": cpuinfo(1, **arm)})
    sys = write(tmp_path / "sys", thread(0, -1, "0"))
    facts = processor_facts(proc, sys)
    assert facts["model"] == "Arm processor 0x41 0xd0c"
    assert "sockets" not in facts and "cores_per_socket" not in facts


def test_nothing_readable_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    empty = tmp_path / "nothing"
    facts = machine_facts(tmp_path, empty, empty, empty)
    assert facts.keys() <= {"storage", "cuda", "gpus"}
    assert facts["gpus"] == []


def test_all_facts_together(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    proc, sys = server
    facts = machine_facts(tmp_path, proc, sys, tmp_path)
    assert facts["memory_bytes"] == 2**30
    assert facts["numa_nodes"] == 2
    assert facts["virtual"] is False
    assert facts["operating_system"] == "Linux 6.8.0-45-generic"


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
    ("device", "files", "expected"),
    [
        ("nvme0n1/nvme0n1p2", {"partition": "2"}, "NVMe SSD"),
        ("sda/sda1", {"partition": "1", "../queue/rotational": "1"}, "HDD"),
        ("sdb", {"queue/rotational": "0"}, "SSD"),
        ("vda", {"queue/rotational": "1"}, "virtual disk"),
    ],
)
def test_kinds_of_disks(tmp_path, device, files, expected):
    number = tmp_path.stat().st_dev
    block = tmp_path / "sys/devices/pci/block" / device
    block.mkdir(parents=True)
    write(block, files)
    link = tmp_path / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    link.parent.mkdir(parents=True)
    link.symlink_to(block)
    facts = storage_facts(tmp_path, tmp_path / "proc", tmp_path / "sys")
    space = os.statvfs(tmp_path)
    assert facts == {"bytes": space.f_blocks * space.f_frsize, "type": expected}


def test_a_disk_below_encrypted_logical_volumes_is_found(tmp_path):
    number = tmp_path.stat().st_dev
    chain = ["dm-1", "dm-0", "nvme1n1"]
    for above, below in pairwise(chain):
        slaves = tmp_path / "sys/block" / above / "slaves"
        slaves.mkdir(parents=True)
        (slaves / below).symlink_to(tmp_path / "sys/block" / below)
    (tmp_path / "sys/block/nvme1n1").mkdir()
    link = tmp_path / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "sys/block/dm-1")
    assert storage_facts(tmp_path, tmp_path, tmp_path / "sys")["type"] == "NVMe SSD"


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        ("nfs4 files:/home rw", "nfs4 file system"),
        ("overlay overlay rw", "overlay file system"),
        ("btrfs /dev/sdq1 rw", "HDD"),
    ],
)
def test_file_systems_without_a_disk_of_their_number(tmp_path, mount, expected):
    number = tmp_path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    lines = f"21 1 9999:1 / /proc rw - proc proc rw\n22 1 {device} / /x rw shared:1 - {mount}"
    proc = write(tmp_path / "proc", {"self/mountinfo": lines})
    sys = write(tmp_path / "sys", {"class/block/sdq1/queue/rotational": "1"})
    assert storage_facts(tmp_path, proc, sys)["type"] == expected


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


def test_the_distribution_and_the_kernel(tmp_path):
    write(tmp_path, {"os-release": 'NAME=x\nPRETTY_NAME="Ubuntu 24.04.1 LTS"'})
    assert operating_system(tmp_path, tmp_path) == "Ubuntu 24.04.1 LTS"
    write(tmp_path, {"sys/kernel/osrelease": "6.8.0"})
    assert operating_system(tmp_path, tmp_path) == "Ubuntu 24.04.1 LTS, Linux 6.8.0"


DRIVER = """#!/bin/sh
case "$1" in
topo) printf '\\tGPU0\\tGPU1\\tNIC0\\tCPU Affinity\\tNUMA Affinity\\n'
      printf '\\033[4mGPU0\\033[0m\\t X \\tNV18\\tPIX\\t0-55\\t0\\n'
      printf 'GPU1\\tNV18\\t X \\tSYS\\t56-111\\t1\\nNIC0\\tPIX\\tSYS\\t X \\n' ;;
*) echo 'NVIDIA H100 80GB HBM3, 570.86.15, 81559, 5, 16, 1980'
   echo 'NVIDIA H100 80GB HBM3, 570.86.15, 81559, [N/A], 16, 1980' ;;
esac
"""


def test_gpus_are_those_that_the_driver_lists(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(DRIVER)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    first, second = gpu_facts()
    assert first == GPU
    assert second.keys() == first.keys() - {"pcie_generation"}
    assert gpu_links() == ["NV18"]


def test_a_driver_that_fails_means_no_gpu(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'a, b, c, d, e, f'\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert gpu_facts() == [] and gpu_links() == []


def test_a_driver_that_hangs_is_given_up(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 30\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr("t2i.job.machine.GPU_SECONDS", 0.2)
    assert gpu_facts() == []
