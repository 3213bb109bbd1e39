"""What a submission tells of the machine that made it: nothing but what it has to."""

import pytest

from t2i.submission.texts import portable, portable_command


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("snakemake --cores all", "snakemake --cores all"),
        (
            "snakemake --configfile /home/me/my.yaml --cores 4",
            "snakemake --configfile my.yaml --cores 4",
        ),
        ("snakemake --config mirror=/data/mirror --cores 4", "snakemake --cores 4"),
        (
            "snakemake --config mirror=/data/mirror offline=true run=a samples=5",
            "snakemake --config run=a samples=5",
        ),
        ("snakemake --directory=/scratch/x 'a b'", "snakemake --directory=x 'a b'"),
        ("snakemake --config inference_checkout=/opt/inference", "snakemake"),
    ],
)
def test_commands_name_no_folder_of_the_machine(command, told):
    assert portable_command(command) == told


def test_configurations_name_no_folder_of_the_machine():
    config = {
        "run": "a",
        "mirror": "http://10.0.0.1/mirror",
        "inference_checkout": "/opt/inference",
        "containers": {"torch": "/images/torch.sif"},
        "sources": "/home/me/sources.yaml",
        "variants": {"a": {"patch": "patches/attention.py:f", "list": ["/a/b", 1]}},
    }
    assert portable(config) == {
        "run": "a",
        "sources": "sources.yaml",
        "variants": {"a": {"patch": "patches/attention.py:f", "list": ["b", 1]}},
    }
    assert config["mirror"].startswith("http"), "the given one is left as it is"
