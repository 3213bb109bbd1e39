"""A made-up system: what a submission says of it, and what the machine tells of itself."""

from typing import Any

DESCRIPTION = {
    "cooling": "air",
    "host_memory_configuration": "2x 16 GB DDR5",
    "host_networking": "N/A",
    "host_networking_topology": "N/A",
}
SUBMISSION = {
    "submitter": "acme",
    "system": "my-box",
    "system_type": "edge",
    "status": "available",
    "description": DESCRIPTION,
}
MACHINE: dict[str, Any] = {
    "processor": {
        "model": "Grand CPU 9000",
        "sockets": 2,
        "cores_per_socket": 56,
        "threads": 224,
        "frequency_mhz": 3700,
        "caches": ["L1d 48K x 112", "L3 32768K x 2"],
    },
    "numa_nodes": 2,
    "virtual": True,
    "memory_bytes": 512 * 2**30,
    "storage": {"bytes": 1_920_000_000_000, "type": "NVMe SSD"},
    "network": {"cards": 2, "kinds": ["Ethernet 25 Gb/s"]},
    "operating_system": "Ubuntu 24.04.1 LTS, Linux 6.8.0",
    "gpus": [],
}
GPU = {
    "name": "NVIDIA H100 80GB HBM3",
    "driver": "570.86.15",
    "memory_mib": 81559,
    "pcie_generation": 5,
    "pcie_width": 16,
    "clock_mhz": 1980,
}
WITH_GPUS = {**MACHINE, "gpus": [GPU] * 2, "gpu_links": ["NV18"], "cuda": "12.8.90"}
SOFTWARE = {"python": "3.11.9", "torch": "2.11.0", "diffusers": "0.30.3", "scipy": "1.13"}
