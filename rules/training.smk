"""Training of Stable Diffusion v2: steps, evaluation of checkpoints, log, verdict, page, package.

CONSUMES training data, the frozen model, captions, scoring networks, reference statistics
PRODUCES results/{run}/training/
"""


rule train_network:
    """Train the UNet. An interrupted training goes on from its last checkpoint."""
    input:
        **training_inputs(),
    output:
        facts=f"{TRAINED}/training.json",
        checkpoints=trained_weights(),
    log:
        "logs/{run}/training/{repeat}/train_network.log",
    benchmark:
        "benchmarks/{run}/training/{repeat}/train_network.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: training_threads()
    resources:
        **nodes_of_slurm(),
        gpu=TRAINING["nodes"] * node_gpus(),
        mem_mb=growing(64000 if TRAINING["network"] == "sd2" else 6000),
        runtime=growing(2880),
    params:
        work=f"{TRAINED}/work",
        request=training_request,
        code=code("train_network", training_modules),
    script:
        "../scripts/train_network.py"


use rule train_network as train_segment with:
    input:
        **training_inputs(),
        previous=previous_segment,
    output:
        facts=f"{TRAINED}/segments/step-{{step}}.json",
        checkpoints=[f"{TRAINED}/segments/step-{{step}}.safetensors"],
    log:
        "logs/{run}/training/{repeat}/train_segment/{step}.log",
    benchmark:
        "benchmarks/{run}/training/{repeat}/train_segment/{step}.tsv"
    params:
        work=f"{TRAINED}/work",
        request=segment_request,
        code=code("train_network", training_modules),


rule sample_checkpoint:
    """Make pictures of one shard's captions with a checkpoint; the manifest is written last."""
    input:
        **checkpoint_inputs(),
        captions=f"resources/{DATASET}/captions.tsv",
        vae=frozen_files("vae"),
        encoder=frozen_files("text_encoder"),
        tokenizer=frozen_files("tokenizer"),
    output:
        images=f"{TRAINED}/shards/{{step}}/{{shard}}.tar",
        manifest=f"{TRAINED}/shards/{{step}}/{{shard}}.json",
    log:
        "logs/{run}/training/{repeat}/sample_checkpoint/{step}.{shard}.log",
    benchmark:
        "benchmarks/{run}/training/{repeat}/sample_checkpoint/{step}.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], 1)
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=growing(24000 if TRAINING["network"] == "sd2" else 4000),
        runtime=growing(240),
    params:
        device=CONFIG["device"],
        threads=1,
        evaluation=sampling(),
        code=code("sample_checkpoint"),
    script:
        "../scripts/sample_checkpoint.py"


use rule extract_features as extract_checkpoint_features with:
    input:
        images=f"{TRAINED}/shards/{{step}}/{{shard}}.tar",
        manifest=f"{TRAINED}/shards/{{step}}/{{shard}}.json",
        captions=f"resources/{DATASET}/captions.tsv",
        inception=network_folder(SCORES["inception"]),
        clip=network_folder(SCORES["clip"]),
    output:
        f"{TRAINED}/features/{{step}}/{{shard}}.npz",
    log:
        "logs/{run}/training/{repeat}/extract_checkpoint_features/{step}.{shard}.log",
    benchmark:
        "benchmarks/{run}/training/{repeat}/extract_checkpoint_features/{step}.{shard}.tsv"


checkpoint score_checkpoint:
    """Compute FID and CLIP of a checkpoint from all features in index order."""
    input:
        features=of_evaluation("features/{step}/{shard}.npz"),
        manifests=of_evaluation("shards/{step}/{shard}.json"),
        statistics=reference_statistics(),
        inception=network_folder(SCORES["inception"]),
        clip=network_folder(SCORES["clip"]),
    output:
        f"{TRAINED}/scores/{{step}}.json",
    log:
        "logs/{run}/training/{repeat}/score_checkpoint/{step}.log",
    benchmark:
        "benchmarks/{run}/training/{repeat}/score_checkpoint/{step}.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=8000,
        runtime="1h",
    params:
        samples=CONFIG["samples"],
        batch=training_settings.global_batch(TRAINING),
        code=code("score_checkpoint"),
    script:
        "../scripts/score_checkpoint.py"


rule write_training_log:
    """Write MLPerf's log of a training, after its checkpoints were evaluated."""
    input:
        facts=training_facts,
        scores=of_checkpoints("scores/{step:09d}.json"),
    output:
        f"{TRAINED}/result_{{repeat}}.txt",
    log:
        "logs/{run}/training/{repeat}/write_training_log.log",
    benchmark:
        "benchmarks/{run}/training/{repeat}/write_training_log.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        samples=CONFIG["samples"],
        submitter=training_submitter(),
        code=code("write_training_log"),
    script:
        "../scripts/write_training_log.py"


rule check_training:
    """Judge a training's log by this workflow's rules, then by mlperf-logging's own checker."""
    input:
        f"{TRAINED}/result_{{repeat}}.txt",
    output:
        f"{TRAINED}/verdict.json",
    log:
        "logs/{run}/training/{repeat}/check_training.log",
    benchmark:
        "benchmarks/{run}/training/{repeat}/check_training.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        division=CONFIG["division"],
        code=code("check_training"),
    script:
        "../scripts/check_training.py"


rule make_training_report:
    """Write the page of a training."""
    input:
        facts=training_facts,
        verdict=f"{TRAINED}/verdict.json",
        log=f"{TRAINED}/result_{{repeat}}.txt",
        captions=f"resources/{DATASET}/captions.tsv",
        scores=of_checkpoints("scores/{step:09d}.json"),
        images=of_checkpoints(f"shards/{{step:09d}}/{SHARDS[0]}.tar"),
        manifests=of_checkpoints(f"shards/{{step:09d}}/{SHARDS[0]}.json"),
    output:
        f"{TRAINED}/report.html",
    log:
        "logs/{run}/training/{repeat}/make_training_report.log",
    benchmark:
        "benchmarks/{run}/training/{repeat}/make_training_report.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(4000),
        runtime=growing(10),
    params:
        code=code("make_training_report"),
    script:
        "../scripts/make_training_report.py"


rule package_trainings:
    """Put the logs of all runs, the system and the code into MLPerf's tree, and judge it."""
    input:
        facts=first_training_facts,
        logs=of_runs("result_{repeat}.txt"),
    output:
        package=directory("results/{run}/training/package"),
        verdict="results/{run}/training/package.json",
    log:
        "logs/{run}/training/package_trainings.log",
    benchmark:
        "benchmarks/{run}/training/package_trainings.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        submission=CONFIG["submission"],
        division=CONFIG["division"],
        status=TRAINING["status"],
        nodes=TRAINING["nodes"],
        accelerators=node_gpus(),
        root=str(Path(workflow.basedir)),
        code=code("package_trainings"),
    script:
        "../scripts/package_trainings.py"
