"""The submission: its tree, checked by this workflow and by MLPerf's own checker.

CONSUMES loadgen/ of a variant, captions, provenance
PRODUCES results/{run}/{variant}/submission/, submission.json; resources/mlcommons-inference/
"""


rule fetch_checkout:
    """Fetch mlcommons/inference at the pinned commit, verified by its id."""
    output:
        directory("resources/mlcommons-inference"),
    log:
        "logs/resources/fetch_checkout.log",
    benchmark:
        "benchmarks/resources/fetch_checkout.tsv"
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=1000,
        runtime="1h",
    script:
        "../scripts/fetch_checkout.py"


rule build_submission:
    """Build the submission tree of a variant."""
    input:
        loadgen=submitted_files,
        engine=variant_file("engine/engine.json"),
        provenance=run_file("provenance.json"),
    output:
        system=variant_file(SUBMITTED_SYSTEM),
        files=variant_file("submission_files.json"),
    log:
        "logs/{run}/{variant}/build_submission.log",
    benchmark:
        "benchmarks/{run}/{variant}/build_submission.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        round=CONFIG["round"],
        division=CONFIG["division"],
        submission=CONFIG["submission"],
        scenarios=SUBMITTED_SCENARIOS,
        inferred=derive.inferred_scenarios(CONFIG),
        audits=LOADGEN_AUDITS,
        variant=variant_settings,
        model=variant_model,
        weights=starting_weights,
        code=code("build_submission"),
    script:
        "../scripts/build_submission.py"


rule check_submission:
    """Check a submission by our own rules, and by MLPerf's checker if a checkout is configured."""
    input:
        system=variant_file(SUBMITTED_SYSTEM),
        files=variant_file("submission_files.json"),
        scores=of_scenarios("scores", SUBMITTED_SCENARIOS),
        verdicts=of_scenarios("verdict.json", SUBMITTED_SCENARIOS),
        captions=f"resources/{DATASET}/captions.tsv",
        sample_ids=f"resources/{DATASET}/sample_ids.txt",
        checkout=checkout_files(),
        messages=[OFFICIAL_MESSAGES, MENDING],
    output:
        variant_file("submission.json"),
    log:
        "logs/{run}/{variant}/check_submission.log",
    benchmark:
        "benchmarks/{run}/{variant}/check_submission.tsv"
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=4000,
        runtime="30m",
    params:
        round=CONFIG["round"],
        division=CONFIG["division"],
        submission=CONFIG["submission"],
        rehearsal=CONFIG["rehearsal"],
        windows=variant_windows,
        settings=loadgen_settings,
        checkout=CHECKOUT,
        shown=SHOWN_IMAGES,
        code=code("check_submission"),
    script:
        "../scripts/check_submission.py"


# Without an output, so that every call reads everything again.
rule check_tree:
    """Check any submission tree (`--config tree=PATH`) by our own rules, and against its run if known."""
    log:
        "logs/check_tree.log",
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=4000,
        runtime="30m",
    params:
        tree=tree_to_check,
        run=CONFIG["tree_run"],
        captions=f"resources/{DATASET}/captions.tsv",
        code=code("check_tree"),
    script:
        "../scripts/check_tree.py"
