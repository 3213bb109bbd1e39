"""Every command that the documentation shows can be run: Snakemake's and make's as dry runs."""

import re
import shlex
import subprocess

import pytest
import yaml

from workflow_run import PROJECT, Workplace, copy_project

PAGES = sorted(
    [PROJECT / "README.md", *PROJECT.glob("docs/*.md"), *PROJECT.glob("*/README.md")],
)
CODE = re.compile(
    r"`(?P<inline>(?:snakemake|make)(?: [^`]+)?)`|^(?P<block>(?:snakemake|make) .*)$", re.M
)
BLANK = {"PATH": "results/demo/fp32/submission", "PYTHON=/path/to/python3.12": "PYTHON=python3"}
# What a dry run cannot show here, each with the reason.
NOT_HERE = {
    "--sdm conda": "needs conda",
    "--sdm apptainer": "needs Apptainer",
    "--profile mysite": "a profile of the reader's own",
    "mine/config.json": "what tools/use_prompts.py writes; shown by tests/prompts/test_own.py",
    "config/mine.yaml": "a configuration of the reader's own",
    "config/training.yaml": "needs LAION's tars; tests/training/test_workflow.py plans it",
    "offline=true": "lists the inputs that are missing; shown by tests/workflow/test_official.py",
}


def commands() -> dict[str, str]:
    """Each command of the documentation, and the first page that shows it."""
    found: dict[str, str] = {}
    for page in PAGES:
        for match in CODE.finditer(page.read_text(encoding="utf-8")):
            text = " ".join((match["inline"] or match["block"]).partition("  #")[0].split())
            found.setdefault(text.partition(" #")[0].strip(), page.relative_to(PROJECT).as_posix())
    return found


COMMANDS = commands()
SHOWN = {text: page for text, page in COMMANDS.items() if text not in ("snakemake", "make")}
OF_SNAKEMAKE = sorted(text for text in SHOWN if text.startswith("snakemake"))
OF_MAKE = sorted(text for text in SHOWN if text.startswith("make"))


def test_the_documentation_shows_commands():
    assert len(OF_SNAKEMAKE) >= 20 and len(OF_MAKE) >= 5
    assert any("loadgen=null" in text for text in OF_SNAKEMAKE)
    assert any("windows=null" in text for text in OF_SNAKEMAKE)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Workplace:
    """The project as a reader has it, before anything has run."""
    return Workplace(copy_project(tmp_path_factory.mktemp("documented") / "project"), ())


@pytest.mark.slow
@pytest.mark.parametrize("text", OF_SNAKEMAKE)
def test_a_snakemake_command_is_accepted(text: str, place: Workplace):
    for part, reason in NOT_HERE.items():
        if part in text:
            pytest.skip(f"{part}: {reason}")
    words = [re.sub(r"\bPATH\b", BLANK["PATH"], word) for word in shlex.split(text)[1:]]
    told = [] if "--unlock" in words or "-n" in words or "--lint" in words else ["--dry-run"]
    place.snakemake(*words, *told, cores=None)


@pytest.mark.parametrize("text", OF_MAKE)
def test_a_make_command_is_accepted(text: str):
    words = [BLANK.get(word, word) for word in shlex.split(text) if "T2I_" not in word]
    done = subprocess.run(
        [*words, "--dry-run"], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_every_configuration_is_shown():
    shown = " ".join(COMMANDS)
    for path in sorted((PROJECT / "config").glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "run" in content and path.name != "config.yaml":
            assert f"config/{path.name}" in shown, path


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page}: {link}"
