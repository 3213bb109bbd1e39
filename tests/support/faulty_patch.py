"""A patch of the model that goes wrong in the shard that a file of the working folder names."""

import itertools
import sys
import time
from pathlib import Path

VALUES = {"NaN": float("nan"), "black": -1.0, "grey": 0.0}  # of the decoder


def fault(pipeline):
    """Raise while a file `raise-SHARD` exists, sleep while `hang-SHARD` does (and say so).

    `paint-SHARD` holds words for the shard's first images, of which all pixels become one.

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
    paint = Path(f"paint-{shard}")
    if paint.exists():
        spoil(pipeline.vae, [VALUES[word] for word in paint.read_text().split()])
    return pipeline


def spoil(decoder, values):
    """Make a decoder's first images uniform, each of one of the values."""
    decode, left = decoder.decode, list(values)

    def spoilt(*args, **kwargs):
        (images,) = decode(*args, **kwargs)
        for image in images[: len(left)]:
            image.fill_(left.pop(0))
        return (images,)

    decoder.decode = spoilt
