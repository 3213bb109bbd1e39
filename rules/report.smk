"""The report: one page for the whole run.

CONSUMES metrics, judged pictures, compliance, comparison, provenance, shards
PRODUCES results/{run}/report.html, report.json, summary.csv, summary.md, images/
"""


rule make_report:
    """Write the report page of a run with its pictures, and its numbers for machines."""
    input:
        metrics=of_variants("{variant}/metrics.json"),
        judged=of_drawn(of_variants("{variant}/judged.json")),
        compliance=of_variants("{variant}/compliance.json"),
        scenarios=of_driven_scenarios("verdict.json"),
        latencies=of_timed_scenarios("performance/latencies.npy"),
        submissions=submissions(),
        engine_speed=CONFIG.get("engine_speed", []),
        comparison=run_file("comparison.json"),
        provenance=run_file("provenance.json"),
        manifests=of_all_shards("shards/{shard}.json"),
        shards=of_all_shards("shards/{shard}.tar"),
        captions=f"resources/{DATASET}/captions.tsv",
        sample_ids=f"resources/{DATASET}/sample_ids.txt",
        templates=report_templates(),
    output:
        html=report(
            run_file("report.html"),
            caption="../config/report/report.rst",
            category="Report",
        ),
        json=run_file("report.json"),
        csv=run_file("summary.csv"),
        markdown=run_file("summary.md"),
        images=directory(run_file("images")),
    log:
        "logs/{run}/make_report.log",
    benchmark:
        "benchmarks/{run}/make_report.tsv"
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=4000,
        runtime="15m",
    params:
        run=RUN,
        variants=VARIANTS,
        shown=SHOWN_IMAGES,
        code=code("make_report"),
    script:
        "../scripts/make_report.py"
