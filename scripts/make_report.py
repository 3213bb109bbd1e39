"""Write the report page of a run, its pictures, and the same results for machines."""

from pathlib import Path

from t2i.base.arrays import read_array
from t2i.base.files import publish_folder, read_json, write_json, write_text
from t2i.generate.shard import read_manifest
from t2i.job.job import job
from t2i.mlperf import image_ids
from t2i.prompts.captions import read_captions, read_sample_ids
from t2i.report import export
from t2i.report.data import assemble
from t2i.report.gallery import write_pictures
from t2i.report.page import render
from t2i.report.speed import read_speed

PICTURES = 7_500_000  # characters of all thumbnails together: the page stays below 10 MB


def of_scenario(path: Path) -> tuple[str, str]:
    """Variant and scenario of a file below VARIANT/loadgen/SCENARIO/MODE/."""
    return path.parents[3].name, path.parents[1].name


with job(snakemake):
    inputs, names = snakemake.input, list(snakemake.params.variants)
    manifests = {Path(path): read_manifest(Path(path)) for path in inputs.manifests}
    report = assemble(
        snakemake.params.run,
        names,
        [read_json(Path(path)) for path in inputs.metrics],
        [read_json(Path(path)) for path in inputs.compliance],
        read_json(Path(inputs.comparison)),
        read_json(Path(inputs.provenance)),
        list(manifests.values()),
        read_captions(Path(inputs.captions)),
        image_ids(snakemake.params.shown, read_sample_ids(Path(inputs.sample_ids))),
        [read_json(Path(path)) for path in inputs.judged],
        [read_json(Path(path)) for path in inputs.scenarios],
        {of_scenario(Path(path)): read_array(Path(path)) for path in inputs.latencies},
        {Path(path).parent.name: read_json(Path(path)) for path in inputs.submissions},
        read_speed(Path(inputs.engine_speed)) if inputs.engine_speed else None,
    )
    indices = {row["index"] for row in report["gallery"]["rows"]}
    budget = PICTURES // max(1, len(indices) * len(names))
    pictures = {}
    with publish_folder(Path(snakemake.output.images)) as folder:
        for name in names:
            shards = [
                (path.with_suffix(".tar"), path)
                for path, manifest in manifests.items()
                if manifest["variant"] == name
            ]
            pictures[name] = write_pictures(shards, indices, budget, folder / name)
    page = render(report, pictures)
    write_text(Path(snakemake.output.csv), export.as_csv(report))
    write_text(Path(snakemake.output.markdown), export.as_markdown(report))
    write_json(Path(snakemake.output.json), report)
    write_text(Path(snakemake.output.html), page)
