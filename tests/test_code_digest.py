"""Stale code is noticed, cosmetic edits are not."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from t2i import code_digest as module
from t2i.code_digest import code_digest, module_files

SCRIPTS = Path(__file__).parents[1] / "scripts"

FILES = {
    "alone.py": "import os\n\nprint(os.sep)\n",
    "direct.py": "from t2i.maths import mean\n\nprint(mean([1]))\n",
    "through.py": "def late():\n    from t2i import report\n    return report.page()\n",
    "t2i/__init__.py": '"""The library."""\n',
    "t2i/maths.py": (
        '"""Maths."""\n\n\ndef mean(values):\n    """The mean."""\n'
        "    return sum(values) / len(values)  # of all\n"
    ),
    "t2i/report.py": "import t2i.maths as maths\n\n\ndef page():\n    return maths.mean([1, 2])\n",
    "t2i/unused.py": "VALUE = 1\n",
}
MEAN = "def mean(values):\n    return sum(values) / len(values)\n"
TEXT = '\n    """Other words."""'


@pytest.fixture(autouse=True)
def fresh():
    """Files of these tests change, which those of a run do not."""
    module._parsed.cache_clear()
    yield
    module._parsed.cache_clear()


@pytest.fixture
def folder(tmp_path):
    """Scripts and a library in miniature."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def digests(folder):
    """Digest of each script of a folder."""
    module._parsed.cache_clear()
    return {path.stem: code_digest(path) for path in sorted(folder.glob("*.py"))}


def changed_by(folder, name, text):
    """Scripts whose digest another text of one file changes."""
    before = digests(folder)
    (folder / name).write_text(text)
    after = digests(folder)
    return {script for script in before if before[script] != after[script]}


@pytest.mark.parametrize(
    "text",
    [
        MEAN,
        f'"""Other words."""\n\n{MEAN.replace(":", ":" + TEXT, 1).replace(" / ", "/")}',
        "# a licence\n\n\n" + MEAN.replace(":", ":  # why\n", 1).replace("(values)", "( values )"),
        MEAN.replace("    ", "\t"),
    ],
    ids=["without", "other words", "layout", "tabs"],
)
def test_comments_docstrings_and_layout_do_not_count(folder, text):
    assert changed_by(folder, "t2i/maths.py", text) == set()


@pytest.mark.parametrize(
    "old, new",
    [
        ("sum(values) / len(values)", "sum(values) / (len(values) - 1)"),
        ("return", "yield"),
        ("mean(values):", "mean(values=()):"),
        ('"""The mean."""', '"""The mean."""\n    """A second text is no docstring."""'),
    ],
)
def test_edit_of_a_module_changes_just_the_scripts_that_import_it(folder, old, new):
    text = FILES["t2i/maths.py"].replace(old, new, 1)
    assert text != FILES["t2i/maths.py"]
    assert changed_by(folder, "t2i/maths.py", text) == {"direct", "through"}


@pytest.mark.parametrize(
    "name, scripts",
    [
        ("alone.py", {"alone"}),
        ("direct.py", {"direct"}),
        ("t2i/report.py", {"through"}),
        ("t2i/unused.py", set()),
        ("t2i/__init__.py", {"direct", "through"}),
        ("t2i/os.py", set()),
        ("t2i/page.html", set()),
    ],
)
def test_edit_elsewhere_changes_nothing_else(folder, name, scripts):
    assert changed_by(folder, name, FILES.get(name, "") + "\nNEW = 1\n") == scripts


def test_modules_that_import_each_other_are_read_once(folder):
    (folder / "t2i/maths.py").write_text("import t2i.report\n")
    files = module_files(folder / "through.py")
    names = [path.relative_to(folder.resolve()).as_posix() for path in files]
    assert names == ["t2i/__init__.py", "t2i/maths.py", "t2i/report.py", "through.py"]


def test_renamed_module_counts(folder):
    before = digests(folder)["direct"]
    (folder / "t2i/maths.py").rename(folder / "t2i/means.py")
    (folder / "direct.py").write_text(FILES["direct.py"].replace("maths", "means"))
    assert digests(folder)["direct"] != before


def test_digest_does_not_depend_on_where_the_project_lies(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other place") / "moved"
    before = digests(folder)
    folder.rename(other)
    assert digests(other) == before


def test_what_is_not_covered_is_documented():
    text = " ".join(module.__doc__.split())
    for words in ("pinned packages", "templates", "by name at run time"):
        assert words in text


def library_modules(script):
    """Names of the library's modules behind a real script."""
    files = module_files(SCRIPTS / f"{script}.py")
    return {path.stem for path in files if path.parent.name == "t2i"} - {"__init__"}


def test_every_script_finds_all_modules_that_it_imports():
    for script in sorted(SCRIPTS.glob("*.py")):
        found = module_files(script)
        for path in found:
            for node in ast.walk(ast.parse(path.read_text())):
                names = []
                if isinstance(node, ast.ImportFrom):
                    assert node.level == 0, f"{path}: a relative import is not followed"
                    names = [node.module]
                elif isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                for name in names:
                    if name.startswith("t2i."):
                        module = SCRIPTS.joinpath(*name.split("."))
                        assert {module.with_suffix(".py"), module / "__init__.py"} & {*found}
        assert library_modules(script.stem), f"{script.name} imports nothing of the library"


def test_library_imports_nothing_by_name_at_run_time():
    for path in SCRIPTS.rglob("*.py"):
        text = path.read_text()
        assert "__import__" not in text, path
        assert "import_module" not in text, path


def test_images_depend_on_what_makes_them_and_nothing_that_shows_them():
    modules = library_modules("generate_shard")
    assert {"sampling", "engine", "devices", "latents", "archive", "files", "shards"} <= modules
    shown = {"report", "page", "gallery", "rulegraph", "summary", "compliance", "metrics"}
    planned = {"config", "settings", "sources", "provenance", "failures", "code_digest"}
    assert modules.isdisjoint(shown | planned | {"fid", "inception", "clip", "scoring", "pictures"})


def test_features_depend_on_neither_generation_nor_presentation():
    modules = library_modules("extract_features")
    assert {"inception", "clip", "features", "archive"} <= modules
    assert modules.isdisjoint({"sampling", "engine", "report", "page", "config", "compliance"})


def test_fetching_depends_on_nothing_that_computes():
    modules = library_modules("fetch_source")
    assert modules.isdisjoint({"engine", "sampling", "devices", "scoring", "config"})


@pytest.mark.parametrize("script", ["convert_clip", "convert_inception"])
def test_conversion_depends_on_no_configuration(script):
    """Converted weights are made anew at the cost of all features."""
    assert library_modules(script).isdisjoint({"config", "sources", "yaml_files", "settings"})


def test_digest_is_equal_in_another_process():
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from t2i.code_digest import code_digest\n"
        "print(code_digest(Path(sys.argv[1], 'generate_shard.py')))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(SCRIPTS)],
        env={"PYTHONHASHSEED": "7"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == code_digest(SCRIPTS / "generate_shard.py")
