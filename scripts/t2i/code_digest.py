"""A digest of the code behind a rule: its script and the library modules that it imports.

Comments, docstrings and layout do not count, so an edit of those re-runs nothing; every other
edit of an imported module changes the digest of exactly the scripts that import it, directly or
through other modules. Not covered are modules outside the script's folder (pinned packages), files
that are no Python (templates), and imports made by name at run time.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from t2i.files import sha256_json

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _imported_modules(tree: ast.Module) -> set[str]:
    """Dotted names of all modules that a module may import, their packages included."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    paths = [name.split(".") for name in names]
    return {".".join(path[:end]) for path in paths for end in range(1, len(path) + 1)}


@cache
def _parsed(path: Path) -> tuple[set[str], str]:
    """Modules that a module may import, and its normalised source; once for all its importers."""
    tree = _without_docstrings(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))
    return _imported_modules(tree), ast.unparse(tree)


def module_files(script: Path) -> list[Path]:
    """The script and every module beside it that it imports, directly or not, sorted.

    Modules are looked up below the script's folder, as Python does for a script's own imports.
    """
    found: set[Path] = set()
    waiting = [script.resolve()]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in _parsed(path)[0]:
            base = script.resolve().parent.joinpath(*name.split("."))
            for candidate in (base.with_suffix(".py"), base / "__init__.py"):
                if candidate.is_file():
                    waiting.append(candidate)
    return sorted(found)


def code_digest(script: Path) -> str:
    """Hex sha256 over the syntax trees (as normalised source) of a script and its modules."""
    folder = script.resolve().parent
    return sha256_json(
        {str(path.relative_to(folder)): _parsed(path)[1] for path in module_files(script)}
    )
