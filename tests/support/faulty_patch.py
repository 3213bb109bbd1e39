"""A patch of the model that fails or hangs in the shard that a file of the working folder names."""

import itertools
import sys
import time
from pathlib import Path


def fault(pipeline):
    """Raise while a file `raise-SHARD` exists, sleep while `hang-SHARD` does (and say so).

    `raise-SHARD` goes with the first failure where it says `once`. `hang-SHARD` may hold a number
    of steps, of which none sleeps.
    """
    shard = sys.modules["__main__"].snakemake.wildcards.shard
    forward = pipeline.unet.forward
    steps = itertools.count()

    def faulty(*args, **kwargs):
        trouble = Path(f"raise-{shard}")
        if trouble.exists():
            if trouble.read_text() == "once":
                trouble.unlink()
            raise FloatingPointError("this batch cannot be computed")
        step, hang = next(steps), Path(f"hang-{shard}")
        while hang.exists() and step >= int(hang.read_text() or 0):
            Path(f"hanging-{shard}").touch()
            time.sleep(0.1)
        return forward(*args, **kwargs)

    pipeline.unet.forward = faulty
    return pipeline
