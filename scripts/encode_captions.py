"""Encode the captions of one tar of training data, once for all steps."""

from pathlib import Path

from t2i.job.device import use_device
from t2i.job.job import job

with (
    job(snakemake),
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    from t2i.training.encodings import write_encodings
    from t2i.training.tars import Samples, read_index
    from t2i.training.text import TextEncoder

    samples = Samples([Path(snakemake.input.tar)], [read_index(Path(snakemake.input.index))])
    folders = (
        Path(files[0]).parent for files in (snakemake.input.tokenizer, snakemake.input.encoder)
    )
    write_encodings(
        Path(snakemake.output.hidden),
        samples,
        TextEncoder(*folders, device),
        snakemake.params.batch_size,
    )
