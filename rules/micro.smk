"""Training of the micro SDXL and its CLIP scorer from nothing, on the project's own pictures.

CONSUMES config/models/sdxl-base-1.0, config/faults.py, resources/micro-inception/
PRODUCES micro/models/, which is laid out as models/; micro/report.html, model_card.md
"""

TRAINED_SDXL = "micro/models/micro-sdxl"
TRAINED_CLIP = "micro/models/micro-clip"
CHECKPOINTS = "micro/{}.checkpoint"  # no outputs, which a failed job would lose


rule train_vae:
    """Train the micro SDXL's autoencoder."""
    output:
        config=f"{TRAINED_SDXL}/vae/config.json",
        weights=f"{TRAINED_SDXL}/vae/diffusion_pytorch_model.fp16.safetensors",
        samples=directory("micro/samples/vae"),
        facts="micro/vae.json",
    log:
        "logs/micro/train_vae.log",
    benchmark:
        "benchmarks/micro/train_vae.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], 1)
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        recipe=CONFIG["micro"]["vae"],
        device=CONFIG["device"],
        threads=1,
        checkpoint=CHECKPOINTS.format("vae"),
        code=code("train_vae"),
    script:
        "../scripts/train_vae.py"


rule train_clip:
    """Train the CLIP scorer of the drawn pictures."""
    output:
        weights=f"{TRAINED_CLIP}/model.safetensors",
        files=expand(
            f"{TRAINED_CLIP}/{{file}}",
            file=["config.json", "network.json", "merges.txt.gz"],
        ),
        facts="micro/clip.json",
    log:
        "logs/micro/train_clip.log",
    benchmark:
        "benchmarks/micro/train_clip.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], 1)
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        recipe=CONFIG["micro"]["clip"],
        device=CONFIG["device"],
        threads=1,
        checkpoint=CHECKPOINTS.format("clip"),
        code=code("train_clip"),
    script:
        "../scripts/train_clip.py"


rule train_unet:
    """Train the micro SDXL's UNet and text encoders on the autoencoder's latents."""
    input:
        vae=rules.train_vae.output.weights,
        vae_config=rules.train_vae.output.config,
        index="config/models/sdxl-base-1.0/model_index.json",
        scheduler="config/models/sdxl-base-1.0/scheduler/scheduler_config.json",
        tokenizers=expand(
            "config/models/sdxl-base-1.0/{tokenizer}/{file}",
            tokenizer=needed.TOKENIZERS,
            file=["tokenizer_config.json", "special_tokens_map.json"],
        ),
    output:
        weights=expand(
            f"{TRAINED_SDXL}/{{file}}.fp16.safetensors",
            file=[
                "unet/diffusion_pytorch_model",
                "text_encoder/model",
                "text_encoder_2/model",
            ],
        ),
        files=expand(
            f"{TRAINED_SDXL}/{{file}}",
            file=[
                "model_index.json",
                "scheduler/scheduler_config.json",
                "unet/config.json",
                "text_encoder/config.json",
                "text_encoder_2/config.json",
            ],
        ),
        tokenizers=expand(
            f"{TRAINED_SDXL}/{{tokenizer}}/{{file}}",
            tokenizer=needed.TOKENIZERS,
            file=needed.TOKENIZER_FILES,
        ),
        samples=directory("micro/samples/unet"),
        facts="micro/unet.json",
    log:
        "logs/micro/train_unet.log",
    benchmark:
        "benchmarks/micro/train_unet.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], 1)
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=growing(8000),
        runtime=growing(360),
    params:
        recipe=CONFIG["micro"]["unet"],
        device=CONFIG["device"],
        threads=1,
        checkpoint=CHECKPOINTS.format("unet"),
        code=code("train_unet"),
    script:
        "../scripts/train_unet.py"


rule evaluate_micro:
    """Evaluate the trained micro SDXL, sampled as in the benchmark and in worse ways."""
    input:
        sdxl=rules.train_unet.output.weights,
        clip=rules.train_clip.output.weights,
        inception=network_folder("micro-inception"),
        faults="config/faults.py",
    output:
        evaluation="micro/evaluation.json",
        samples=directory("micro/samples/final"),
    log:
        "logs/micro/evaluate_micro.log",
    benchmark:
        "benchmarks/micro/evaluate_micro.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], 1)
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        device=CONFIG["device"],
        threads=1,
        captions=CONFIG["micro"]["captions"],
        code=code("evaluate_micro"),
    script:
        "../scripts/evaluate_micro.py"


rule make_micro_report:
    """Write the page and the model card of a training."""
    input:
        vae=rules.train_vae.output.facts,
        clip=rules.train_clip.output.facts,
        unet=rules.train_unet.output.facts,
        evaluation=rules.evaluate_micro.output.evaluation,
        samples=[
            rules.train_vae.output.samples,
            rules.train_unet.output.samples,
            rules.evaluate_micro.output.samples,
        ],
        templates=report_templates(),
    output:
        html="micro/report.html",
        card="micro/model_card.md",
    log:
        "logs/micro/make_micro_report.log",
    benchmark:
        "benchmarks/micro/make_micro_report.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code("make_micro_report"),
    script:
        "../scripts/make_micro_report.py"
