"""Whether a run can begin here: software, configuration, machine, inputs, network, disk.

Every fault is found that can be, each with its mend, in seconds and without changing anything.
Contents of inputs are not hashed; a run does that.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil

from t2i.base.yaml import Config, ConfigError, read_yaml
from t2i.config import forecast
from t2i.config.check import checked_config, with_required
from t2i.config.derive import needed_sources, variant_settings
from t2i.fetch.files import is_remote, missing_offline
from t2i.fetch.table import Source, read_sources
from t2i.job.disk import DiskFullError, format_bytes

PYTHONS = (3, 11), (3, 13)
PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", re.MULTILINE)
GPU_FACTS = "name,driver_version,memory.total,memory.used"
# A job in the output of a dry run, and a line of what is said of it.
JOB = re.compile(r"^(?:local)?(?:rule|checkpoint) (?P<rule>\w+):\n(?P<facts>(?:    .*\n)*)", re.M)
FACT = re.compile(r"^    (output|wildcards): (.*)$", re.M)
SECONDS = 5.0  # for a connection
PLANNING = 600.0  # seconds for a dry run


class Finding(NamedTuple):
    """Something looked at: its name, what was found, and what mends it; None where it is well."""

    name: str
    found: str
    mend: str | None = None


def findings(root: Path, config_file: Path, given: Mapping[str, Any]) -> Iterator[Finding]:
    """All that is to be said of a run of the project in `root` with a configuration file.

    `given` are keys of the command line, which take the place of the file's.
    """
    yield python(sys.version_info[:2])
    yield packages(root / "requirements.lock")
    yield Finding("processors", f"{len(os.sched_getaffinity(0))}")
    memory = psutil.virtual_memory()
    told = f"{format_bytes(memory.available)} of {format_bytes(memory.total)} are free"
    yield Finding("memory", told)
    try:
        config, sources = configuration(root, config_file, given)
    except (ConfigError, ValueError) as error:
        yield Finding("configuration", str(error), f"edit {config_file}")
        return
    yield Finding("configuration", f"{config_file}: {', '.join(config['variants'])}")
    if "cuda" in {variant_settings(config, name)["device"] for name in config["variants"]}:
        yield from gpus()
    needed = [sources[name] for name in needed_sources(config, sources)]
    yield from inputs(needed, Path("resources"), config)
    said = dry_run(root, config_file, given)
    if isinstance(said, Finding):
        yield said
        return
    jobs = planned_jobs(said, sources)
    yield Finding("plan", in_words(jobs))
    if jobs:
        yield disk(jobs, config, sources)


def python(version: tuple[int, int]) -> Finding:
    """The interpreter's version."""
    told = ".".join(map(str, version))
    if PYTHONS[0] <= version <= PYTHONS[1]:
        return Finding("Python", told)
    lowest, highest = (".".join(map(str, each)) for each in PYTHONS)
    mend = f"make environment PYTHON=python3 with a Python from {lowest} to {highest}"
    return Finding("Python", f"{told}: some packages have no wheels for it", mend)


def packages(lock: Path) -> Finding:
    """Whether the packages of the lock are installed in its versions."""
    wrong = []
    pinned = PINNED.findall(lock.read_text())
    for name, version in pinned:
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
        else:
            if installed.partition("+")[0] != version.partition("+")[0]:
                wrong.append(f"{name} is {installed}, not {version}")
    if not wrong:
        return Finding("packages", f"{len(pinned)} as in {lock.name}")
    told = f"{'; '.join(wrong[:3])}{'; ...' * (len(wrong) > 3)}"
    return Finding("packages", told, "make environment, then use .venv")


def configuration(
    root: Path, config_file: Path, given: Mapping[str, Any]
) -> tuple[Config, dict[str, Source]]:
    """The checked configuration and the table of inputs; raises ConfigError or ValueError."""
    config = read_yaml(config_file)
    if not isinstance(config, dict):
        raise ConfigError(f"{config_file}: expected keys with values")
    schema = read_yaml(root / "config/schemas/config.schema.yaml")
    config = with_required({**config, **given}, schema, root / "config/config.yaml")
    table = read_yaml(Path(str(config.get("sources") or root / "config/sources.yaml")))
    sources = read_sources(table)
    return checked_config(config, schema, table), sources


def gpus() -> Iterator[Finding]:
    """The GPUs, who uses them, and whether torch can."""
    command = ["nvidia-smi", f"--query-gpu={GPU_FACTS}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        mend = "use a machine with an NVIDIA driver (Apptainer: --nv), or set device: cpu"
        yield Finding("GPU", f"nvidia-smi cannot be asked ({error})", mend)
        return
    for number, line in enumerate(answer.stdout.splitlines()):
        name, driver, total, used = (field.strip() for field in line.split(","))
        told = f"{name}, driver {driver}, {used} of {total} MiB in use"
        yield Finding(f"GPU {number}", told)
    import torch

    if torch.cuda.is_available():
        yield Finding("torch", f"{torch.__version__}, CUDA {torch.version.cuda}")
    elif torch.version.cuda is None:
        told = f"{torch.__version__} is a build for CPUs"
        yield Finding("torch", told, "install torch from a wheel for CUDA, or set device: cpu")
    else:
        told = f"{torch.__version__} for CUDA {torch.version.cuda} cannot use a GPU here"
        yield Finding("torch", told, "update the driver, or install a torch for an older CUDA")


def inputs(needed: list[Source], resources: Path, config: Config) -> Iterator[Finding]:
    """What is there of the inputs, what has to come, from where, and under which licences."""
    damaged, missing = [], []
    for source in needed:
        path = resources / source.name
        if not path.is_file():
            missing.append(source)
        elif source.size is not None and path.stat().st_size != source.size:
            damaged.append(f"{path} has {path.stat().st_size} bytes, not {source.size}")
    told = f"{len(needed) - len(missing)} of {len(needed)} are here"
    if missing:
        told += f"; {format_bytes(sum(source.size or 0 for source in missing))} have to be fetched"
    yield Finding("inputs", told)
    for text in damaged:
        yield Finding("input", text, "delete it; it is fetched again")
    for licence in sorted({source.licence for source in needed}):
        yield Finding("licence", licence)
    for variable in sorted({source.token for source in missing if source.token}):
        if variable not in os.environ:
            told = f"{variable} is not set, without which a host refuses"
            yield Finding("token", told, f"export {variable}=...")
    absent = missing_offline(missing, resources, config["mirror"])
    if not absent:
        return
    if config["offline"]:
        names = ", ".join(source.name for source in absent[:3])
        more = ", ..." * (len(absent) > 3)
        told = f"offline, and {len(absent)} inputs are not here: {names}{more}"
        mend = "make a mirror where there is a network: snakemake mirror --configfile ..."
        yield Finding("network", told, mend)
        return
    addresses = [config["mirror"] or "", *(source.address for source in absent)]
    yield from network({urlsplit(address).netloc for address in addresses if is_remote(address)})


def network(places: set[str]) -> Iterator[Finding]:
    """Whether hosts can be reached, by the proxy where one is set."""
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    if proxy:
        places = {urlsplit(proxy).netloc}
    for place in sorted(places):
        parts = urlsplit(f"//{place}")
        try:
            socket.create_connection((parts.hostname or "", parts.port or 443), SECONDS).close()
        except OSError as error:
            told = f"{parts.hostname} cannot be reached ({error.strerror or error})"
            mend = "set mirror in the configuration, or HTTPS_PROXY, or fetch elsewhere"
            yield Finding("network", told, mend)
        else:
            yield Finding("network", f"{parts.hostname} answers")


def dry_run(root: Path, config_file: Path, given: Mapping[str, Any]) -> str | Finding:
    """What a dry run says of its jobs, or what is wrong where it fails."""
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "reason"]
    command += ["--snakefile", str(root / "Snakefile"), "--configfile", str(config_file)]
    if given:
        command += ["--config", *(f"{key}={value}" for key, value in given.items())]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PLANNING)
    except subprocess.TimeoutExpired:
        return Finding("plan", f"took longer than {PLANNING:.0f} s", "raise shard_size")
    said = answer.stdout + answer.stderr
    if answer.returncode:
        end = "\n".join(said.splitlines()[-20:])
        return Finding("plan", end or "failed without a word", "as it says")
    return said


def planned_jobs(said: str, sources: dict[str, Source]) -> list[forecast.Job]:
    """The jobs that a dry run lists."""
    jobs = []
    for match in JOB.finditer(said):
        facts = dict(FACT.findall(match["facts"]))
        outputs = facts.get("output", "").split(", ")
        pairs = [pair.partition("=") for pair in facts.get("wildcards", "").split(", ") if pair]
        wildcards = {name: value for name, _, value in pairs}
        if outputs != [""]:  # a job without any is a target
            jobs.append(forecast.planned_job(match["rule"], wildcards, outputs, sources))
    return jobs


def in_words(jobs: list[forecast.Job]) -> str:
    """How many jobs of which rules, in lines of a terminal's width."""
    counts = Counter(job.rule for job in jobs)
    rules = ", ".join(f"{rule} {count}" for rule, count in counts.most_common())
    lines = textwrap.wrap(rules, 80, break_on_hyphens=False)
    return "\n".join([f"{len(jobs)} jobs{':' * bool(jobs)}", *lines])


def disk(jobs: list[forecast.Job], config: Config, sources: dict[str, Source]) -> Finding:
    """What the jobs will write at most, and whether it fits."""
    try:
        told, mend = forecast.checked_forecast(jobs, config, sources), None
    except DiskFullError as error:
        told, _, mend = str(error).partition("\n")
    return Finding("disk", told.removeprefix("disk: "), mend)


def report(found: list[Finding]) -> str:
    """Findings, a line each, faults with their mends, and the verdict at the end."""
    lines = []
    for finding in found:
        mark = "  " if finding.mend is None else "! "
        first, *rest = finding.found.splitlines() or [""]
        lines.append(f"{mark}{finding.name:14} {first}")
        lines += [f"{'':17}{line}" for line in rest]
        if finding.mend is not None:
            lines.append(f"{'':17}-> {finding.mend}")
    faults = sum(finding.mend is not None for finding in found)
    lines.append("Go." if not faults else f"No go: {faults} fault{'s' * (faults > 1)}.")
    return "\n".join(lines)
