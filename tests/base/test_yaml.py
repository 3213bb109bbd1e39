"""YAML as Snakemake reads it; what cannot be read is named with file and line."""

import pytest

from t2i.base.yaml import ConfigError, read_yaml


@pytest.mark.parametrize(
    "text, value",
    [("a: 1e3", {"a": "1e3"}), ("a: on", {"a": True}), ("a: 0o7", {"a": "0o7"}), ("", None)],
)
def test_yaml_reads_as_snakemake_does(tmp_path, text, value):
    (tmp_path / "c.yaml").write_text(text)
    assert read_yaml(tmp_path / "c.yaml") == value


@pytest.mark.parametrize(
    "text, message",
    [
        ("run: a\nsamples: 4\nrun: b\n", "duplicate key 'run'.*line 3, column 1"),
        ("variants:\n  x: {dtype: a, dtype: b}\n", "duplicate key 'dtype'.*line 2"),
        ("a: [1\nb: 2\n", "line 2"),
        ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("a: \x00", "special characters are not allowed"),
    ],
)
def test_unreadable_yaml_is_refused_with_file_and_line(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"(?s)c.yaml.*{message}"):
        read_yaml(path)


def test_merged_keys_are_not_doubled_ones(tmp_path):
    text = "base: &base {dtype: fp16, batch_size: 4}\nother: {<<: *base, batch_size: 8}\n"
    (tmp_path / "c.yaml").write_text(text)
    assert read_yaml(tmp_path / "c.yaml")["other"] == {"dtype": "fp16", "batch_size": 8}


def test_missing_file_and_wrong_encoding_are_named(tmp_path):
    with pytest.raises(ConfigError, match="none.yaml: No such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"run: caf\xe9")
    with pytest.raises(ConfigError, match="latin.yaml: 'utf-8' codec"):
        read_yaml(tmp_path / "latin.yaml")
