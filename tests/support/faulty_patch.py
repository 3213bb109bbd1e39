"""A patch of the model that fails or hangs in the shard that a file of the working folder names."""

import sys
import time
from pathlib import Path


def fault(pipeline):
    """Raise while a file `raise-SHARD` exists, sleep while `hang-SHARD` does (and say so)."""
    shard = sys.modules["__main__"].snakemake.wildcards.shard
    forward = pipeline.unet.forward

    def faulty(*args, **kwargs):
        if Path(f"raise-{shard}").exists():
            raise FloatingPointError("this batch cannot be computed")
        while Path(f"hang-{shard}").exists():
            Path(f"hanging-{shard}").touch()
            time.sleep(0.1)
        return forward(*args, **kwargs)

    pipeline.unet.forward = faulty
    return pipeline
