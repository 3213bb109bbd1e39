"""Convert the published checkpoint of Stable Diffusion v2 to diffusers' layout, once."""

from pathlib import Path

from t2i.base.files import verify_sha256
from t2i.job.job import job
from t2i.prompts.tokenizer import write_tokenizer
from t2i.training.frozen import TEXT, VAE, convert_frozen, read_checkpoint

with job(snakemake):
    published = Path(snakemake.input.published)
    verify_sha256(published, snakemake.params.sha256)
    folder = Path(snakemake.output.vae[0]).parents[1]
    convert_frozen(read_checkpoint(published), folder, VAE, TEXT)
    configs = {Path(path).name: Path(path) for path in snakemake.input.tokenizer}
    write_tokenizer(folder / "tokenizer", configs)
