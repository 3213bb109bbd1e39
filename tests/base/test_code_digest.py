"""Stale code is noticed, cosmetic edits are not."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from t2i.base import code_digest as module
from t2i.base.backends import BACKENDS
from t2i.base.code_digest import code_digest, module_files

SCRIPTS = Path(__file__).parents[2] / "scripts"

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
        ("t2i/report.py", set()),
        ("t2i/unused.py", set()),
        ("t2i/__init__.py", set()),
        ("t2i/os.py", set()),
        ("t2i/page.html", set()),
    ],
)
def test_edit_elsewhere_changes_nothing_else(folder, name, scripts):
    assert changed_by(folder, name, FILES.get(name, "") + "\nNEW = 1\n") == scripts


@pytest.mark.parametrize(
    "name, scripts",
    [
        ("t2i/report.py", {"through"}),
        ("t2i/maths.py", {"direct", "through"}),
        ("t2i/__init__.py", {"direct", "through"}),
        ("t2i/unused.py", set()),
    ],
)
@pytest.mark.parametrize(
    "line",
    [
        "print(1)",
        "import os\nos.environ['A'] = 'b'",
        "import os\n@os.register\ndef kept():\n    return 2",
        "try:\n    import torch\nexcept ImportError:\n    pass",
    ],
)
def test_what_runs_on_import_counts_for_all_who_import(folder, name, scripts, line):
    assert changed_by(folder, name, f"{FILES[name]}\n{line}\n") == scripts


@pytest.mark.parametrize(
    "old, new, same",
    [
        ('raise ValueError("a")', 'raise ValueError("b")', True),
        ('raise ValueError("a")', 'raise KeyError("a")', False),
        ('raise ValueError("a")', 'raise ValueError(f"{values}" + "b")', False),
        ('raise ValueError(f"a {values}")', 'raise ValueError(f"b {values} c")', True),
        ('print("a")', 'print("b", end="")', False),
        ('print("a")', 'print("b")', True),
        ('LOG.warning("a %s", values)', 'LOG.warning("b %s", values)', True),
        ('LOG.warning("a %s", values)', 'LOG.warning("a %s", 1)', False),
        ('name = "a"', 'name = "b"', False),
        ('write("a")', 'write("b")', False),
    ],
)
def test_texts_of_messages_do_not_count(folder, old, new, same):
    text = "LOG = None\n\n\ndef mean(values):\n    {}\n    return 1\n"
    (folder / "t2i/maths.py").write_text(text.format(old))
    changed = changed_by(folder, "t2i/maths.py", text.format(new))
    assert changed == (set() if same else {"direct", "through"})


@pytest.mark.parametrize(
    "use",
    [
        "from t2i.maths import LIMIT\n\nprint(LIMIT)\n",
        "from t2i import maths\n\nprint(maths.LIMIT)\n",
        "import t2i.maths\n\nprint(t2i.maths.LIMIT)\n",
        "from t2i import maths as m\n\nprint(getattr(m, 'LIMIT'))\n",
        "from t2i.middle import LIMIT\n\nprint(LIMIT)\n",
        "def late():\n    from t2i.maths import double\n    return double()\n",
    ],
)
def test_a_definition_is_reached_by_every_way_of_naming_it(folder, use):
    maths = "LIMIT = {}\nOTHER = 1\n\n\ndef double():\n    return LIMIT * 2\n"
    (folder / "t2i/maths.py").write_text(maths.format(1) + MEAN)
    (folder / "t2i/middle.py").write_text("from t2i.maths import LIMIT, mean\n")
    (folder / "user.py").write_text(use)
    assert changed_by(folder, "t2i/maths.py", maths.format(2) + MEAN) == {"user"}


def test_modules_that_are_loaded_by_name_count_where_they_are_said(folder):
    (folder / "t2i/kernel.py").write_text("SIZE = 1\n")
    script = folder / "alone.py"
    before, without = code_digest(script, ["t2i.kernel"]), code_digest(script)
    (folder / "t2i/kernel.py").write_text("SIZE = 2\n")
    module._parsed.cache_clear()
    assert code_digest(script, ["t2i.kernel"]) != before
    assert code_digest(script) == without
    with pytest.raises(ValueError, match="t2i.kernels: no module"):
        code_digest(script, ["t2i.kernels"])


def test_of_the_job_package_only_schema_numbers_count(folder):
    (folder / "t2i/job").mkdir()
    (folder / "t2i/job/facts.py").write_text(
        "from t2i.maths import mean\n\ndef f():\n    mean(1)\n"
    )
    (folder / "alone.py").write_text("from t2i.job.facts import f\n\nf()\n")
    job = (folder / "t2i/job/facts.py").read_text()
    assert changed_by(folder, "t2i/job/facts.py", job.replace("mean(1)", "mean(2)")) == set()
    assert changed_by(folder, "t2i/job/facts.py", f"{job}SCHEMA = 1\n") == {"alone"}
    assert changed_by(folder, "t2i/job/facts.py", f"{job}SCHEMA = 2\n") == {"alone"}
    edited = FILES["t2i/maths.py"].replace("sum(values)", "0")
    assert changed_by(folder, "t2i/maths.py", edited) == {"alone", "direct", "through"}


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
    """Dotted names below t2i of the library's modules behind a real script, but for `job`."""
    files = module_files(SCRIPTS / f"{script}.py")
    names = {
        ".".join(path.relative_to(SCRIPTS / "t2i").with_suffix("").parts)
        for path in files
        if path.is_relative_to(SCRIPTS / "t2i") and path.stem != "__init__"
    }
    return {name for name in names if not name.startswith("job.")}


def packages(script):
    """Packages of the library behind a real script."""
    return {name.partition(".")[0] for name in library_modules(script)}


def test_every_script_finds_all_modules_that_are_imported_with_it():
    for script in sorted(SCRIPTS.glob("*.py")):
        found = module_files(script)
        for path in found:
            for node in ast.parse(path.read_text()).body:
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
        assert len(found) > 1, f"{script.name} imports nothing of the library"


def test_only_back_ends_are_imported_by_name():
    """Their modules count for the digest by the rules' `code(rule, backend)`."""
    for path in SCRIPTS.rglob("*.py"):
        text = path.read_text()
        assert "__import__" not in text, path
        assert ("import_module" in text) == (path.name == "painter.py"), path
    digests = [code_digest(SCRIPTS / "generate_shard.py", also) for also in BACKENDS.values()]
    assert len(set(digests)) == len(BACKENDS)


def test_images_depend_on_what_makes_them_and_nothing_that_shows_them():
    assert packages("generate_shard") == {"base", "engine", "generate", "prompts"}


def test_features_depend_on_neither_generation_nor_presentation():
    assert packages("extract_features") <= {"base", "generate", "metrics", "prompts"}


def test_fetching_depends_on_nothing_that_computes():
    assert packages("fetch_source") <= {"base", "fetch", "config", "mlperf"}


@pytest.mark.parametrize("script", ["convert_clip", "convert_inception"])
def test_conversion_depends_on_no_configuration(script):
    """Converted weights are rebuilt at the cost of all features."""
    assert packages(script) <= {"base", "metrics"}


def test_digest_is_equal_in_another_process():
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from t2i.base.code_digest import code_digest\n"
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
