"""Write the page of a training of the miniature networks, and their model card."""

from pathlib import Path

from t2i.base.files import read_json, write_text
from t2i.job.job import job
from t2i.micro.card import model_card
from t2i.micro.page import read_grids, render
from t2i.micro.record import PARTS

PICTURES = 9_000_000  # characters of all grids together

with job(snakemake):
    parts = {name: read_json(Path(getattr(snakemake.input, name))) for name in PARTS}
    evaluation = read_json(Path(snakemake.input.evaluation))
    card = model_card(parts, evaluation)
    grids = read_grids([Path(path) for path in snakemake.input.samples], PICTURES)
    write_text(Path(snakemake.output.html), render(parts, evaluation, grids))
    write_text(Path(snakemake.output.card), card)
