"""The pins agree everywhere: lock files, conda environments, containers, the installation."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from t2i.base.code_digest import imports

ROOT = Path(__file__).parents[2]
ROLES = ["host", "torch"]  # of which every pin is in the lock files
DOWNLOAD = "laion"  # whose packages need an older pandas
ALL_ROLES = [*ROLES, DOWNLOAD]
# torch brings the packages of its own build; they depend on the machine and are in no list.
TORCH_BUILD = re.compile(r"(nvidia|cuda)-.*|triton")


def lock_lines(name: str) -> list[str]:
    """Requirements of a lock file, without comments and empty lines."""
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def pins(lines: list[str]) -> dict[str, str]:
    """Versions by normalised package name."""
    pairs = (line.split("==") for line in lines)
    return {canonicalize_name(name): version for name, version in pairs}


def lock() -> dict[str, str]:
    """Every pinned version, torch included."""
    return pins(lock_lines("requirements-torch.lock") + lock_lines("requirements.lock"))


def conda(role: str) -> dict[str, str]:
    """Versions of the conda packages of a role's environment."""
    dependencies = yaml.safe_load((ROOT / "envs" / f"{role}.yaml").read_text())["dependencies"]
    return dict(entry.split("=") for entry in dependencies if isinstance(entry, str))


def pip_section(role: str) -> list[str]:
    """Requirements that a role's environment installs with pip."""
    dependencies = yaml.safe_load((ROOT / "envs" / f"{role}.yaml").read_text())["dependencies"]
    section: list[str]
    (section,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return section


def needs(package: str) -> Iterator[str]:
    """Normalised names of what an installed package requires on this machine."""
    for text in metadata.requires(package) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            name = canonicalize_name(requirement.name)
            if not TORCH_BUILD.fullmatch(name):
                yield name


def missing(listed: dict[str, str]) -> dict[str, list[str]]:
    """Requirements of listed packages that are not listed themselves, by package."""
    absent = {name: [need for need in needs(name) if need not in listed] for name in listed}
    return {name: names for name, names in absent.items() if names}


def imported_packages(script: Path) -> set[str]:
    """Top-level names, outside the standard library, that a script and its modules import."""
    names = {name.partition(".")[0] for name in imports(script)}
    return names - set(sys.stdlib_module_names) - {"t2i"}


def rule_environments() -> list[tuple[str, str]]:
    """Script name and role of every rule that runs a script in a conda environment."""
    pattern = re.compile(
        r'conda:\s+"\.\./envs/(\w+)\.yaml".*?script:\s+"\.\./scripts/(\w+)\.py"', re.DOTALL
    )
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk"))]
    blocks = [
        block
        for text in texts
        for block in re.split(r"^(?:rule|checkpoint) ", text, flags=re.MULTILINE)
    ]
    return [(match[2], match[1]) for block in blocks if (match := pattern.search(block))]


def skip_unless_complete() -> None:
    """Skip where Python is not the one of a .venv that `make environment` finished."""
    if not (Path(sys.prefix) / ".complete").is_file():
        pytest.skip(f"{sys.prefix} was not built by make environment: its versions are its own")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-torch.lock"])
def test_lock_holds_exact_public_versions_without_addresses(name: str) -> None:
    for line in lock_lines(name):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][0-9a-z.]*", line), line
    assert "://" not in (ROOT / name).read_text()


def test_lock_names_every_package_once() -> None:
    lines = lock_lines("requirements-torch.lock") + lock_lines("requirements.lock")
    assert len(lines) == len(lock())


def test_torch_stands_in_its_own_lock_alone() -> None:
    assert list(pins(lock_lines("requirements-torch.lock"))) == ["torch"]
    assert "torch" not in pins(lock_lines("requirements.lock"))


def test_lock_is_closed() -> None:
    skip_unless_complete()
    assert missing(lock()) == {}


def test_installed_versions_are_the_locked_ones() -> None:
    skip_unless_complete()
    installed = {name: metadata.version(name).partition("+")[0] for name in lock()}
    assert installed == lock()


@pytest.mark.parametrize("role", ROLES)
def test_environment_pins_equal_the_lock(role: str) -> None:
    section = pip_section(role)
    assert len(pins(section)) == len(section)
    assert pins(section).items() <= lock().items()


@pytest.mark.parametrize("role", ROLES)
def test_environment_is_closed(role: str) -> None:
    skip_unless_complete()
    assert missing(pins(pip_section(role))) == {}


def test_environment_of_the_download_differs_in_pandas_alone() -> None:
    section = pip_section(DOWNLOAD)
    own = pins(section)
    assert len(own) == len(section)
    assert {name for name in own if own[name] != lock().get(name, own[name])} == {"pandas"}
    assert own["img2dataset"]


@pytest.mark.parametrize("role", ALL_ROLES)
def test_environment_takes_conda_packages_from_conda_forge_alone(role: str) -> None:
    environment = yaml.safe_load((ROOT / "envs" / f"{role}.yaml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert {"python", "pip"} <= conda(role).keys()


@pytest.mark.parametrize("role", ALL_ROLES)
def test_container_has_the_environment_s_python(role: str) -> None:
    image = f"python:{conda(role)['python']}-slim-bookworm"
    assert f"BASE={image}\n" in (ROOT / "containers" / f"{role}.def").read_text()
    assert f"BASE=docker.io/library/{image}\n" in (ROOT / "containers/Containerfile").read_text()


@pytest.mark.parametrize("role", ALL_ROLES)
def test_definition_copies_the_environment_and_the_locks(role: str) -> None:
    definition = (ROOT / "containers" / f"{role}.def").read_text()
    (files,) = re.findall(r"^%files\n((?: .*\n)+)", definition, flags=re.MULTILINE)
    sources = {line.split()[0] for line in files.splitlines()}
    locks = {
        "host": {"requirements.lock"},
        "torch": {"requirements.lock", "requirements-torch.lock"},
        DOWNLOAD: set(),
    }
    assert sources == {f"envs/{role}.yaml"} | locks[role]
    assert all((ROOT / source).is_file() for source in sources)


@pytest.mark.parametrize("role", ALL_ROLES)
@pytest.mark.parametrize("build", ["{role}.def", "Containerfile"])
def test_container_installs_the_pip_section(role: str, build: str) -> None:
    text = (ROOT / "containers" / build.format(role=role)).read_text()
    (expression,) = re.findall(r"sed -n 's/(.*)/\\1/p' environment.yaml", text)
    # sed's basic expressions mark groups with backslashes, Python's do not.
    pattern = re.compile(expression.replace(r"\(", "(").replace(r"\)", ")"))
    lines = (ROOT / "envs" / f"{role}.yaml").read_text().splitlines()
    assert [match[1] for line in lines if (match := pattern.match(line))] == pip_section(role)
    if role in ROLES:
        assert re.search(
            r"--constraint requirements\.lock \\\n +--requirement requirements\.txt", text
        )


@pytest.mark.parametrize(("script", "role"), rule_environments())
def test_environment_holds_what_the_script_imports(script: str, role: str) -> None:
    distributions = metadata.packages_distributions()
    wanted = {
        canonicalize_name(distributions[name][0])
        for name in imported_packages(ROOT / "scripts" / f"{script}.py")
        # Snakemake gives its own package to every script.
        if name != "snakemake" and name in distributions
    }
    pinned = pins(pip_section(role)).keys()
    brought = {name for name in wanted if "torch" in pinned and TORCH_BUILD.fullmatch(name)}
    assert wanted - brought <= pinned


def test_every_script_of_a_rule_is_looked_at() -> None:
    scripts = {script for script, _ in rule_environments()}
    directives = re.findall(
        r'script:\s+"\.\./scripts/(\w+)\.py"',
        "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk")),
    )
    assert scripts == set(directives)
    assert scripts


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 14, 0)])
def test_make_refuses_a_python_without_wheels(tmp_path: Path, version: tuple[int, ...]) -> None:
    for name in ("Makefile", "requirements.lock", "requirements-torch.lock"):
        shutil.copy(ROOT / name, tmp_path)
    other = tmp_path / "python"
    code = f"import sys; sys.version_info = {version}; exec(sys.argv[1])"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$2"\n')
    other.chmod(0o755)
    done = subprocess.run(
        ["make", "environment", f"PYTHON={other}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "none of Python 3.11 to 3.13" in done.stderr
    assert not (tmp_path / ".venv").exists()
