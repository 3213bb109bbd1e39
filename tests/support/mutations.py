"""Changes of the library on purpose, for tests that a comparison notices them."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest


@dataclass(frozen=True)
class _Change:
    step: str
    module: ModuleType

    def __str__(self) -> str:
        return self.step


@dataclass(frozen=True)
class Edit(_Change):
    """A library function or class in which one piece of source is exchanged for another."""

    function: str
    old: str
    new: str

    def apply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the changed function into its module and wherever it was imported to."""
        original = getattr(self.module, self.function)
        source = inspect.getsource(original)
        assert source.count(self.old) == 1, f"{self.old!r} is not once in {self.function}"
        namespace: dict[str, Any] = {}
        code = compile(source.replace(self.old, self.new), f"<{self.step}>", "exec")
        exec(code, vars(self.module), namespace)
        for name, module in list(sys.modules.items()):
            if name.startswith("t2i.") and getattr(module, self.function, None) is original:
                monkeypatch.setattr(module, self.function, namespace[self.function])


@dataclass(frozen=True)
class Swap(_Change):
    """A constant or class of a library module exchanged for another."""

    name: str
    value: Any

    def apply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the other value into the module."""
        monkeypatch.setattr(self.module, self.name, self.value)
