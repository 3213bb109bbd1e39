"""One finished tiny run that all tests of the workflow share, and what they ask Snakemake.

Everything happens in copies below pytest's temporary folder, so a test may edit the library.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

PROJECT = Path(__file__).parents[2]
PARTS = (
    *("config", "containers", "envs", "models", "profiles", "rules", "scripts", "tools"),
    *("Snakefile", "slurm", "LICENSE", "requirements.lock", "requirements-torch.lock"),
)
CONFIGS = PROJECT / "tests/configs"
TINY = CONFIGS / "tiny.yaml"
SHARDS = ("00000-00003", "00003-00006")
VARIANTS = ("fp32", "bf16")
RUN_ID = "PYTEST_XDIST_TESTRUNUID"
LARGE = 1 << 20  # bytes from which a copy is a hard link

JOB = re.compile(
    r"^(?:(?:local)?rule|(?:local)?checkpoint) (?P<rule>\w+):\n(?P<facts>(?:    .*\n)*)",
    re.MULTILINE,
)
WILDCARDS = re.compile(r"^    wildcards: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Workplace:
    """A copy of the project in which Snakemake is called."""

    folder: Path
    config: tuple[Path, ...] = (TINY,)

    @property
    def environment(self) -> dict[str, str]:
        """The tests' environment without user profiles, and with caches beside the copy."""
        keep = {name: value for name, value in os.environ.items() if "SNAKEMAKE" not in name}
        beside = self.folder.parent
        for folder in ("cache", "config", "tmp"):
            (beside / folder).mkdir(exist_ok=True)
        return {
            **keep,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(beside / "cache"),
            "XDG_CONFIG_HOME": str(beside / "config"),
            "TMPDIR": str(beside / "tmp"),
        }

    def command(self, *words: str, overlay: dict | None = None, cores: int | None = 2) -> list[str]:
        """A call of Snakemake: `words` first, then config files and cores.

        `overlay` is written to a file and goes on top of the other config files.
        """
        configs = list(self.config)
        if overlay is not None:
            configs.append(self.folder / "overlay.json")
            configs[-1].write_text(json.dumps(overlay))
        command = [sys.executable, "-m", "snakemake", *words]
        command += ["--configfile", *map(str, configs)] if configs else []
        return [*command, *(["--cores", str(cores)] if cores else [])]

    def snakemake(
        self,
        *words: str,
        overlay: dict | None = None,
        cores: int | None = 2,
        before: tuple[str, ...] = (),
        succeeds: bool = True,
        **environment: str,
    ) -> str:
        """Run Snakemake to its end; what it printed. `before` are words before the command."""
        command = [*before, *self.command(*words, overlay=overlay, cores=cores)]
        done = self.run(command, **environment)
        assert (done.returncode == 0) == succeeds, done.stdout[-20_000:]
        return done.stdout

    def run(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end, with all that it prints in one text."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
        )

    def start(self, command: list[str], said: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Begin a command here in a session of its own; all that it prints goes to a file."""
        with said.open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def plan(self, *words: str, overlay: dict | None = None) -> set[str]:
        """Jobs that Snakemake would run: a rule and the values of its wildcards but the run."""
        return planned_jobs(self.snakemake(*words, "--dry-run", overlay=overlay))

    def scores(self, variant: str) -> tuple[float, float, str]:
        """FID, CLIP and the digest of all images of a variant."""
        metrics = json.loads((self.folder / f"results/tiny/{variant}/metrics.json").read_text())
        return metrics["fid"], metrics["clip"], metrics["digest"]

    def images(self, variant: str) -> dict[int, str]:
        """Digest of each image of a variant by sample index, regardless of the shards."""
        manifests = (self.folder / f"results/tiny/{variant}/shards").glob("*.json")
        samples = [
            sample for path in manifests for sample in json.loads(path.read_text())["samples"]
        ]
        return {sample["index"]: sample["sha256"] for sample in samples}


def table_with(**groups: dict) -> str:
    """The project's table of inputs with more groups, as the text of a file."""
    table = yaml.safe_load((PROJECT / "config/sources.yaml").read_text())
    return json.dumps({**table, **groups})


def planned_jobs(output: str) -> set[str]:
    """Jobs in the output of a dry run, each as `rule wildcard wildcard`, without the target."""
    assert "Job stats:" in output or "Nothing to be done" in output, output[-20_000:]
    jobs = set()
    for match in JOB.finditer(output):
        found = WILDCARDS.search(match["facts"])
        pairs = [pair.partition("=") for pair in found[1].split(", ")] if found else []
        jobs.add(" ".join([match["rule"], *(value for key, _, value in pairs if key != "run")]))
    return jobs - {"all", "fetch"}


def rules(jobs: set[str]) -> set[str]:
    """Names of the rules of planned jobs."""
    return {job.split()[0] for job in jobs}


def of_rule(jobs: set[str], rule: str) -> set[str]:
    """The planned jobs of one rule, by their wildcards."""
    return {job.partition(" ")[2] for job in jobs if job.split()[0] == rule}


def copy_project(folder: Path) -> Path:
    """Copy everything that a run needs, and nothing that a run makes."""
    folder.mkdir()
    for name in PARTS:
        if (PROJECT / name).is_dir() and not (PROJECT / name).is_symlink():
            shutil.copytree(
                PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy2(PROJECT / name, folder / name, follow_symlinks=False)
    return folder


def copy_run(source: Path, folder: Path) -> Path:
    """Copy a project with its run; large files, which are only ever replaced, are linked."""

    def copy(old: str, new: str) -> None:
        if Path(old).stat().st_size > LARGE:
            os.link(old, new)
        else:
            shutil.copy2(old, new)

    shutil.copytree(source, folder, symlinks=True, copy_function=copy)
    return folder


def cut_off() -> tuple[str, ...]:
    """Words before a command that leave it without any network, where the system allows it."""
    words = ("unshare", "--user", "--map-root-user", "--net")
    try:
        allowed = subprocess.run([*words, "true"], capture_output=True).returncode == 0
    except OSError:
        allowed = False
    return words if allowed else ()


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workplace:
    """A finished tiny run. For looking and dry runs only: damage goes into `workplace`."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    if RUN_ID not in os.environ:
        place = Workplace(copy_project(folder))
        place.snakemake(before=cut_off())
        return place
    # pytest-xdist's workers copy one run, which the first of them makes.
    shared = tmp_path_factory.getbasetemp().parent / "finished"
    with FileLock(f"{shared}.lock"):
        if not shared.is_dir():
            part = shared.with_suffix(".part")
            Workplace(copy_project(part)).snakemake(before=cut_off())
            part.rename(shared)
    return Workplace(copy_run(shared, folder))


@pytest.fixture
def workplace(finished, tmp_path) -> Workplace:
    """A copy of the finished run, to be damaged, edited and run again."""
    return Workplace(copy_run(finished.folder, tmp_path / "project"))


@pytest.fixture(scope="session")
def patched(finished, tmp_path_factory) -> Workplace:
    """The finished run and the engine of one more variant, which fails or hangs on demand."""
    folder = copy_run(finished.folder, tmp_path_factory.mktemp("patched") / "project")
    shutil.copy2(PROJECT / "tests/support/faulty_patch.py", folder)
    more = folder / "faulty.yaml"
    more.write_text(
        "variants: {faulty: {dtype: fp32, batch_size: 2, patch: 'faulty_patch.py:fault'}}\n"
    )
    place = Workplace(folder, (TINY, more))
    place.snakemake("results/tiny/faulty/engine/engine.json")
    return place
