"""The shipped configurations, changed and judged."""

import copy
from pathlib import Path

import pytest

from t2i.base.yaml import ConfigError, read_yaml
from t2i.config.check import checked_config

CONFIG = Path(__file__).parents[2] / "config"


SCHEMA = read_yaml(CONFIG / "schemas" / "config.schema.yaml")


TABLE = read_yaml(CONFIG / "sources.yaml")


DEMO = read_yaml(CONFIG / "config.yaml")


MLPERF = read_yaml(CONFIG / "mlperf.yaml")


def changed(config, changes):
    """A copy of a configuration with some values, by dotted path, replaced."""
    config = copy.deepcopy(config)
    for path, value in changes.items():
        *parents, key = path.split(".")
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        place[key] = value
    return config


def mistakes(config):
    """The lines of the error that a configuration gives, without the heading."""
    with pytest.raises(ConfigError) as caught:
        checked_config(config, SCHEMA, TABLE)
    heading, *lines = str(caught.value).splitlines()
    assert heading == "the configuration cannot be used:"
    assert len(set(lines)) == len(lines)
    return lines


def only_mistake(changes, config=DEMO):
    """The one line that changes to a good configuration give."""
    (line,) = mistakes(changed(config, changes))
    return line
