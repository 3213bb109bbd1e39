"""A digest of the code behind a rule: its script and what it uses of the library.

Only definitions that the script reaches count, so an edit re-runs the rules whose results it can
change and no others. Comments, docstrings, layout and the text of messages (strings in `raise`,
`print` and logging) do not count, and of the package `t2i.job`, which can change no result, only
its SCHEMA numbers do: raise one where the form of what that module writes into a file changes.

Reached are: the whole script; every name that a reached definition mentions; every statement of a
module that is not a definition (it runs on import); and a whole module where it is
used as a value; and CUDA sources (*.cu, *.cuh) beside a reached module, whole. Not covered are
modules outside the script's folder (pinned packages), other files that are not Python (templates),
and imports by name at run time, for which `also` names further modules.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from t2i.base.files import sha256_json

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
PRINTING = {"print", "debug", "info", "warning", "error", "exception", "critical", "log"}
# A decorator that only wraps; any other may register what it decorates, which then counts always.
WRAPPING = {"cache", "cached_property", "contextmanager", "dataclass", "lru_cache", "overload"}
QUIET_PACKAGE = ("t2i", "job")
SCHEMA = "SCHEMA"


class _Quiet(ast.NodeTransformer):
    """Takes the text out of messages."""

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return _textless(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else None
        if isinstance(node.func, ast.Name):
            name = node.func.id
        return _textless(node) if name in PRINTING else self.generic_visit(node)


def _textless(node: ast.AST) -> ast.AST:
    quiet: ast.AST = _Textless().visit(node)
    return quiet


class _Textless(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


class _Part(NamedTuple):
    text: str
    mentioned: list[tuple[str, ...]]
    imported: set[str]


class _Module:
    """One parsed module: `definitions` by name, `always` and `imports` what runs on import, and the
    `names` that imports bind."""

    def __init__(self, path: Path) -> None:
        source = path.read_text(encoding="utf-8")
        tree = _Quiet().visit(_without_docstrings(ast.parse(source, filename=str(path))))
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.always: list[ast.stmt] = []
        self.imports: list[ast.stmt] = []
        for node in tree.body:
            bound = _bound_names(node)
            for name in bound:
                self.definitions.setdefault(name, []).append(node)
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imports.append(node)
            elif not bound and not isinstance(node, ast.Pass):
                self.always.append(node)
        self.names: dict[str, set[str]] = {}
        for bound_name, meaning, _ in _imports(tree):
            self.names.setdefault(bound_name, set()).add(meaning)
        self._parts: dict[str | None, _Part] = {}

    def part(self, name: str | None) -> _Part:
        """A definition, or with None what runs on import; read once for all who reach it."""
        if name not in self._parts:
            nodes = self.always if name is None else self.definitions[name]
            importing = [*nodes, *self.imports] if name is None else nodes
            self._parts[name] = _Part(
                "\n".join(map(ast.unparse, nodes)),
                [mention for node in nodes for mention in _mentioned(node)],
                {loaded for node in importing for _, _, loaded in _imports(node)},
            )
        return self._parts[name]


def _bound_names(node: ast.stmt) -> list[str]:
    """Names that a statement defines; none for one that has to run whenever its module does."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        wrapped = {_last_name(decorator) for decorator in node.decorator_list}
        return [node.name] if wrapped <= WRAPPING else []
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    names = [name for target in targets for name in _target_names(target)]
    return [] if None in names else [name for name in names if name is not None]


def _target_names(target: ast.expr) -> Iterator[str | None]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _target_names(element)
    else:
        yield None  # an attribute or an item of something else


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _imports(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Imports below a node, those inside functions too: the name that each binds, and the dotted
    names of what that refers to and of what is loaded."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.split(".")[0]
                yield bound, alias.name if alias.asname else bound, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield alias.asname or alias.name, full, full


def _mentioned(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Names below a node, with the attributes that follow them: a.b.c is ("a", "b", "c")."""
    followed: set[ast.expr] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute):
            chain, value = [part.attr], part.value
            while isinstance(value, ast.Attribute):
                chain.append(value.attr)
                followed.add(value)
                value = value.value
            if isinstance(value, ast.Name):
                followed.add(value)
                if part not in followed:
                    yield (value.id, *reversed(chain))
        elif isinstance(part, ast.Name) and part not in followed:
            yield (part.id,)


@cache
def _parsed(path: Path) -> _Module:
    return _Module(path)


class _Reach:
    """What a script reaches: definitions by file and name, None for what runs on import."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reached: set[tuple[Path, str | None]] = set()
        self.waiting: list[tuple[Path, str | None]] = []

    def add(self, path: Path, name: str | None) -> None:
        """A definition, and what runs when its module is imported."""
        for entry in {(path, None), (path, name)}:
            if entry not in self.reached:
                self.reached.add(entry)
                self.waiting.append(entry)

    def add_module(self, path: Path) -> None:
        """All of a module."""
        self.add(path, None)
        for name in _parsed(path).definitions:
            self.add(path, name)

    def follow(self) -> None:
        """Follow references until nothing new is reached."""
        while self.waiting:
            path, name = self.waiting.pop()
            module = _parsed(path)
            part = module.part(name)
            for dotted in part.imported:
                self._import(dotted)
            for first, *rest in part.mentioned:
                if first in module.definitions:
                    self.add(path, first)
                for dotted in module.names.get(first, ()):
                    self._resolve([*dotted.split("."), *rest])

    def file(self, parts: Sequence[str]) -> Path | None:
        """The module of a dotted name, if it lies beside the script."""
        base = self.folder.joinpath(*parts)
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if parts and candidate.is_file():
                return candidate
        return None

    def _import(self, dotted: str) -> None:
        """What an import statement runs: the module and the packages around it."""
        parts = dotted.split(".")
        for end in range(1, len(parts) + 1):
            if path := self.file(parts[:end]):
                self.add(path, None)

    def _resolve(self, parts: list[str]) -> None:
        """The definition that a dotted name refers to; the whole module if there is none."""
        for end in range(len(parts), 0, -1):
            path = self.file(parts[:end])
            if path is None:
                continue
            if end == len(parts):
                return self.add_module(path)
            module, name = _parsed(path), parts[end]
            if name in module.definitions:
                return self.add(path, name)
            if name in module.names:
                for dotted in module.names[name]:
                    self._resolve([*dotted.split("."), *parts[end + 1 :]])
                return self.add(path, None)
            return self.add_module(path)
        return None


def _reached(script: Path, also: Sequence[str]) -> _Reach:
    reach = _Reach(script.parent)
    reach.add_module(script)
    for dotted in also:
        path = reach.file(dotted.split("."))
        if path is None:
            raise ValueError(f"{dotted}: no module of {script.parent}")
        reach.add_module(path)
    reach.follow()
    return reach


def module_files(script: Path) -> list[Path]:
    """The script and every module beside it that it imports, directly or not, sorted.

    Modules are looked up below the script's folder, as Python does for a script's own imports.
    """
    return sorted({path for path, _ in _reached(script.resolve(), ()).reached})


def imports(script: Path) -> set[str]:
    """Dotted names of everything that a script and what it reaches of the library imports."""
    names: set[str] = set()
    for path, name in _reached(script.resolve(), ()).reached:
        names |= _parsed(path).part(name).imported
    return names


def code_definitions(script: Path, also: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Normalised source of all that counts, by file relative to the script's folder and name.

    `also` are dotted modules that are loaded by name. Raises ValueError for a missing one.
    """
    script = script.resolve()
    counted: dict[str, dict[str, str]] = {}
    for path, name in _reached(script, also).reached:
        module, relative = _parsed(path), path.relative_to(script.parent)
        if relative.parts[: len(QUIET_PACKAGE)] == QUIET_PACKAGE and name != SCHEMA:
            if SCHEMA in module.definitions:
                counted.setdefault(str(relative), {})[SCHEMA] = module.part(SCHEMA).text
            continue
        if text := module.part(name).text:
            counted.setdefault(str(relative), {})[name or ""] = text
        for kernel in sorted(path.parent.glob("*.cu*")):
            whole = {"": kernel.read_text(encoding="utf-8")}
            counted.setdefault(str(kernel.relative_to(script.parent)), whole)
    return counted


def code_digest(script: Path, also: Sequence[str] = ()) -> str:
    """Hex sha256 over `code_definitions`."""
    return sha256_json(code_definitions(script, also))
