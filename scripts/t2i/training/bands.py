"""What the reference's own runs scored, checkpoint by checkpoint, at three global batch sizes.

From the tables of mlcommons/training, stable_diffusion/README.md: 14 runs at 512, 13 at 1024 and at
2048. A run of the same settings is expected inside; MLPerf itself asks for the time alone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Band:
    """Least and largest score of the reference's runs at one checkpoint, and how many passed."""

    samples: int
    fid: tuple[float, float]
    clip: tuple[float, float]
    passed: int


def _bands(rows: str) -> dict[int, Band]:
    """Bands by samples seen, from lines of: samples, FID, CLIP (low-high each), passed."""
    found = {}
    for line in rows.strip().splitlines():
        samples, fid, clip, passed = line.split()
        low, high = (float(value) for value in fid.split("-"))
        least, most = (float(value) for value in clip.split("-"))
        found[int(samples)] = Band(int(samples), (low, high), (least, most), int(passed))
    return found


BANDS = {
    512: _bands("""
        512000 216.6-294.6 .042-.075 0
        1024000 146.3-187.3 .083-.113 0
        1536000 104.8-129.0 .118-.146 0
        2048000 92.4-117.5 .135-.161 0
        2560000 74.4-90.8 .159-.176 13
        3072000 69.5-78.8 .169-.183 14
        3584000 59.8-71.1 .177-.200 14
        4096000 55.8-68.1 .190-.205 14
        4608000 54.4-71.5 .185-.210 14
        5120000 49.2-59.8 .197-.214 14
    """),
    1024: _bands("""
        512000 321.1-547.2 .028-.056 0
        1024000 190.0-238.5 .056-.122 0
        1536000 127.0-166.8 .103-.124 0
        2048000 96.4-133.8 .123-.153 0
        2560000 88.0-102.5 .148-.170 5
        3072000 72.8-93.4 .161-.180 12
        3584000 68.1-85.1 .164-.182 13
        4096000 57.5-73.7 .179-.203 13
        4608000 56.1-68.7 .186-.201 13
        5120000 53.2-67.7 .185-.209 13
    """),
    2048: _bands("""
        512000 311.8-513.6 .033-.058 0
        1024000 251.3-380.4 .029-.073 0
        1536000 206.8-293.5 .056-.089 0
        2048000 172.8-204.5 .079-.111 0
        2560000 129.3-162.8 .108-.137 0
        3072000 98.9-131.3 .121-.157 0
        3584000 83.5-114.2 .147-.170 4
        4096000 74.2-109.4 .155-.184 11
        4608000 64.2-77.3 .175-.193 13
        5120000 60.8-87.5 .169-.200 13
    """),
}


def band(batch: int, samples: int) -> Band | None:
    """The reference's band at a checkpoint, where it has runs of that batch size."""
    return BANDS.get(batch, {}).get(samples)
