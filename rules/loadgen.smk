"""LoadGen: a variant under MLPerf's own clock, in every scenario and mode that is asked for.

CONSUMES a variant's engine, tokens, latent, captions; features of its shards, scoring networks
PRODUCES results/{run}/{variant}/loadgen/{scenario}/{mode}/, scores/, audits/{test}/, verdict.json
"""


rule run_loadgen:
    """Run one LoadGen test: a scenario in one mode, with one worker process per GPU."""
    input:
        engine=variant_file("engine/engine.json"),
        compiled=variant_compiled,
        tokens=f"resources/{DATASET}/tokens.{MODEL}.npz",
        latents=f"resources/{DATASET}/latents.npy",
        captions=f"resources/{DATASET}/captions.tsv",
        conf=own_conf,
        audit_conf=own_audit_conf,
    output:
        summary=scenario_file("{mode}/mlperf_log_summary.txt"),
        detail=scenario_file("{mode}/mlperf_log_detail.txt"),
        accuracy=kept_log(scenario_file("{mode}/mlperf_log_accuracy.json")),
        trace=scenario_file("{mode}/mlperf_log_trace.json"),
        user_conf=scenario_file("{mode}/user.conf"),
        latencies=scenario_file("{mode}/latencies.npy"),
        facts=scenario_file("{mode}/run.json"),
    log:
        "logs/{run}/{variant}/run_loadgen/{scenario}.{mode}.log",
    benchmark:
        "benchmarks/{run}/{variant}/run_loadgen/{scenario}.{mode}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: loadgen_threads
    resources:
        gpu=loadgen_gpus,
        mem_mb=growing(loadgen_memory),
        runtime=growing(720),
    params:
        round=CONFIG["round"],
        seeds=mlperf.ROUNDS[CONFIG["round"]].seeds,
        model=variant_model,
        settings=loadgen_settings,
        code=code("run_loadgen", variant_backend),
    script:
        "../scripts/run_loadgen.py"


rule score_accuracy:
    """Compute FID and CLIP of the images that LoadGen logged, and extract the compliance images."""
    input:
        log=scenario_file("accuracy/mlperf_log_accuracy.json"),
        facts=scenario_file("accuracy/run.json"),
        features=features_at_hand(),
        captions=f"resources/{DATASET}/captions.tsv",
        sample_ids=f"resources/{DATASET}/sample_ids.txt",
        statistics=reference_statistics(),
        inception=network_folder(SCORES["inception"]),
        clip=network_folder(SCORES["clip"]),
    output:
        directory(scenario_file("scores")),
    log:
        "logs/{run}/{variant}/score_accuracy/{scenario}.log",
    benchmark:
        "benchmarks/{run}/{variant}/score_accuracy/{scenario}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], SCORES["threads"])
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=growing(8000 + 40 * SCORES["batch_size"]),
        runtime=growing(240),
    params:
        samples=CONFIG["samples"],
        device=CONFIG["device"],
        threads=SCORES["threads"],
        batch_size=SCORES["batch_size"],
        recipe=variant_recipe,
        shown=SHOWN_IMAGES,
        code=code("score_accuracy"),
    script:
        "../scripts/score_accuracy.py"


rule verify_audit:
    """Verify an audit by our stricter checks, and by MLPerf's scripts if a checkout is configured."""
    input:
        performance=[
            scenario_file("performance/mlperf_log_summary.txt"),
            scenario_file("performance/mlperf_log_detail.txt"),
        ],
        audit=[
            scenario_file("{test}/mlperf_log_summary.txt"),
            scenario_file("{test}/mlperf_log_detail.txt"),
            scenario_file("{test}/mlperf_log_accuracy.json"),
        ],
        accuracy=audited_log,
        facts=scenario_file("{test}/run.json"),
        checkout=checkout_files(),
        messages=OFFICIAL_MESSAGES,
    output:
        directory(scenario_file("audits/{test}")),
    log:
        "logs/{run}/{variant}/verify_audit/{scenario}.{test}.log",
    benchmark:
        "benchmarks/{run}/{variant}/verify_audit/{scenario}.{test}.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        checkout=CHECKOUT,
        code=code("verify_audit"),
    script:
        "../scripts/verify_audit.py"


rule score_audit:
    """Score TEST01's images and the accuracy run's, for part III of the audit."""
    input:
        test=scenario_file("TEST01/mlperf_log_accuracy.json"),
        facts=scenario_file("TEST01/run.json"),
        accuracy=scenario_file("accuracy/mlperf_log_accuracy.json"),
        captions=f"resources/{DATASET}/captions.tsv",
        statistics=reference_statistics(),
        inception=network_folder(SCORES["inception"]),
        clip=network_folder(SCORES["clip"]),
    output:
        directory(scenario_file("part_iii")),
    log:
        "logs/{run}/{variant}/score_audit/{scenario}.log",
    benchmark:
        "benchmarks/{run}/{variant}/score_audit/{scenario}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], SCORES["threads"])
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=growing(8000 + 40 * SCORES["batch_size"]),
        runtime=growing(60),
    params:
        device=CONFIG["device"],
        threads=SCORES["threads"],
        batch_size=SCORES["batch_size"],
        code=code("score_audit"),
    script:
        "../scripts/score_audit.py"


rule judge_scenario:
    """Judge a scenario by every rule that applies, and print the verdict."""
    input:
        runs=of_modes("run.json"),
        logs=of_modes("mlperf_log_summary.txt", "mlperf_log_detail.txt"),
        scores=scenario_scores,
        audits=scenario_audits,
    output:
        scenario_file("verdict.json"),
    log:
        "logs/{run}/{variant}/judge_scenario/{scenario}.log",
    benchmark:
        "benchmarks/{run}/{variant}/judge_scenario/{scenario}.tsv"
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=2000,
        runtime="10m",
    params:
        round=CONFIG["round"],
        division=CONFIG["division"],
        windows=variant_windows,
        code=code("judge_scenario"),
    script:
        "../scripts/judge_scenario.py"
