"""How torch computes: what results depend on, and determinism."""

from __future__ import annotations


def set_up_torch(threads: int) -> None:
    """The number of torch's threads, and deterministic convolutions."""
    import torch

    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True


def exact_float32() -> None:
    """Keep float32 convolutions on a GPU in float32; torch's default rounds their inputs to TF32.

    Scores are meant to be those of any machine. Generation keeps torch's default, as the
    reference does.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
