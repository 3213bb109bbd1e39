"""What Snakemake tells a script of its job."""

from __future__ import annotations

import runpy
from collections.abc import ItemsView
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SCRIPTS = Path(__file__).parents[2] / "scripts"


class Named(list[Any]):
    """Values in a row, some of which have names, as Snakemake gives inputs, outputs and params."""

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(values)
        for value in named.values():
            self.extend(value if isinstance(value, list) else [value])
        self._named = named

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_named"][name]
        except KeyError:
            raise AttributeError(name) from None

    def items(self) -> ItemsView[str, Any]:
        """The named ones."""
        return self._named.items()


def fake_job(
    input: Named, output: Named, log: Path, params: Named | None = None, **others: Any
) -> SimpleNamespace:
    """The job of a rule called `some_rule`, unless `others` say otherwise."""
    facts: dict[str, Any] = {
        "rule": "some_rule",
        "input": input,
        "output": output,
        "params": params or Named(),
    }
    facts |= {"log": [str(log)], "scriptdir": str(SCRIPTS)}
    return SimpleNamespace(**{**facts, **others})


def run_script(name: str, job: SimpleNamespace) -> None:
    """Run a script of the workflow in this process."""
    runpy.run_path(str(SCRIPTS / f"{name}.py"), init_globals={"snakemake": job})
