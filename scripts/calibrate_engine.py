"""Find the scales of an fp8 variant with an engine of its own, which is deleted afterwards."""

import os
import tempfile
from pathlib import Path

from t2i.engine.compiled import CACHE_VARIABLE
from t2i.job.device import use_device
from t2i.job.job import job

with job(snakemake):
    options = dict(snakemake.params.variant)
    settings = options.pop("fp8")
    output = Path(snakemake.output.scales)
    output.parent.mkdir(parents=True, exist_ok=True)
    with (
        use_device(options["device"], options["threads"]) as device,
        tempfile.TemporaryDirectory(prefix="engine-", dir=output.parent) as temporary,
    ):
        engine, kernels = Path(temporary, "engine"), Path(temporary, "kernels")
        engine.mkdir()
        os.environ[CACHE_VARIABLE] = str(kernels)  # else Triton writes into the home folder
        from t2i.engine.build import build_engine
        from t2i.engine.fp8.calibrate import calibrate
        from t2i.engine.fp8.scales import write_scales
        from t2i.engine.latents import read_latent
        from t2i.engine.networks import load_networks
        from t2i.engine.operations import PLAIN
        from t2i.engine.variant import Variant
        from t2i.prompts.tokens import read_tokens

        build_engine(
            Path(snakemake.params.model),
            engine,
            Variant(**options),
            Path(snakemake.input.unet) if snakemake.input.unet else None,
        )
        networks, manifest = load_networks(engine, device)
        latent = read_latent(Path(snakemake.input.latents), networks.unet.config["sample_size"])
        tokens = read_tokens(Path(snakemake.input.tokens)).begin(settings["captions"])
        ops = PLAIN
        if device == "cuda":
            from t2i.engine.kernels.table import FAST

            ops = FAST
        seen = calibrate(
            networks, {**manifest, "fp8": settings}, tokens, latent, options["batch_size"], ops
        )
        write_scales(output, seen, {"captions": len(tokens.first), "steps": options["steps"]})
    print(f"{len(seen)} scales from {len(tokens.first)} captions")
