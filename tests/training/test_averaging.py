"""Gradients of several processes: their parts, and that parts change no number."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from t2i.base.files import write_json
from t2i.training import rank
from t2i.training.averaging import parts_of
from t2i.training.checkpoints import STATE
from t2i.training.launch import SCRIPTS
from trainings import ALONE, request, write_data

# Processes with many parts, of which the second draws other weights to begin with.
MANY_PARTS = """
import os
from functools import partial
from t2i.training import rank, trainer

drawn = rank.sd2_unet
rank.sd2_unet = lambda sizes, seed: drawn(sizes, seed=seed + int(os.environ["RANK"]))
trainer.parts_of = partial(trainer.parts_of, size=100_000)
rank.main()
"""


def test_parts_hold_every_parameter_once_in_order() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (3, 1, 2, 9, 1, 1)]
    parts = parts_of(parameters, size=16)
    assert [[len(parameter) for parameter in part] for part in parts] == [[3, 1], [2, 9], [1, 1]]
    assert parts_of(parameters) == [parameters]


@pytest.mark.slow
def test_parts_change_no_number(tmp_path: Path) -> None:
    """Two processes are one with the double batch, whatever the second one's first weights."""
    data = write_data(tmp_path)
    given = request(data, tmp_path / "two", processes=2, steps=3, interval=3)
    write_json(tmp_path / "request.json", given)
    script = tmp_path / "many_parts.py"
    script.write_text(MANY_PARTS)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    command += ["--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0", "--local_addr=127.0.0.1"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    subprocess.run(
        [*command, script, tmp_path / "request.json"], env=environment, check=True, timeout=300
    )
    rank.train(request(data, tmp_path / "one", steps=3, interval=3), ALONE)
    two, one = (load_file(tmp_path / name / STATE) for name in ("two", "one"))
    for name, value in one.items():
        if name.startswith("exp_avg."):
            error = float((two[name] - value).abs().max())
            assert error <= 1e-5 * max(float(value.abs().max()), 1e-3), name
