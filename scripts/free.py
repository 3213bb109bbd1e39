"""Remove what can be made again without network and GPU, and say what that gave back."""

from pathlib import Path

from t2i.job.cleanup import check_alone, leftovers, remove, spare_weights
from t2i.job.disk import format_bytes, held_bytes
from t2i.job.job import job

with job(snakemake) as terminal:
    check_alone()
    resources, run = Path("resources"), Path("results", snakemake.params.run)
    found = [
        *leftovers([resources, run]),
        *spare_weights(run, snakemake.params.variants, snakemake.params.shards),
    ]
    lines = []
    total = 0
    for path, what in found:
        size = remove(path)
        total += size
        lines.append(f"removed {path} ({what}): {format_bytes(size)}")
    images = sum(held_bytes(run / variant / "shards") for variant in snakemake.params.variants)
    lines += [
        f"free: {format_bytes(total)} given back",
        f"kept: {format_bytes(images)} of shards (they cost GPU time), "
        f"{format_bytes(held_bytes(resources))} of inputs (they cost network)",
    ]
    print("\n".join(lines), file=terminal)
    print("\n".join(lines))
