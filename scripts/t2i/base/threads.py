"""Threads of numeric libraries. Call before any of them is imported."""

from __future__ import annotations

import os

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def limit_threads(threads: int) -> None:
    """Fix the number of threads of every numeric library, regardless of what the scheduler granted.

    Sums depend on it in their last bits, so it belongs to what is computed.
    """
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)
