"""YAML files of the project: configurations, their schema, the table of inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Config = dict[str, Any]


class ConfigError(ValueError):
    """All mistakes of a configuration or of a file it is made of, one line each."""


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, of which YAML's usual readers take the last."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (name := (key.tag, str(key.value))) in seen:
                where = f"duplicate key {key.value!r}"
                raise yaml.composer.ComposerError(None, None, where, key.start_mark)
            seen.add(name)
        return node


def read_yaml(path: Path) -> Any:
    """Read a YAML file without executing anything; raises ConfigError that names the place."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a safe one
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
