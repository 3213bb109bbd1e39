"""Prune a model's UNet as the configuration says."""

from pathlib import Path

from safetensors.torch import load_file, save_file

from t2i.base.files import publish
from t2i.engine.prune import prune
from t2i.job.job import job

with job(snakemake):
    tensors = {}
    for path in snakemake.input.weights:
        tensors.update(load_file(path))
    pruned = prune(tensors, **snakemake.params.pruning)
    with publish(Path(snakemake.output[0])) as part:
        save_file(pruned, part, metadata={"format": "pt"})
    before, after = (sum(t.numel() for t in each.values()) for each in (tensors, pruned))
    print(f"{after} of {before} parameters kept ({after / before:.1%})")
