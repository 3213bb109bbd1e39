"""Training of the micro SDXL and its CLIP scorer from nothing, on the project's own pictures.

CONSUMES config/models/sdxl-base-1.0, config/faults.py, resources/micro-inception/
PRODUCES training/models/, which is laid out as models/; training/report.html, model_card.md
"""

TRAINED_SDXL = "training/models/micro-sdxl"
TRAINED_CLIP = "training/models/micro-clip"
CHECKPOINTS = "training/{}.checkpoint"  # no outputs, which a failed job would lose


rule train_vae:
    """Train the micro SDXL's autoencoder."""
    output:
        config=f"{TRAINED_SDXL}/vae/config.json",
        weights=f"{TRAINED_SDXL}/vae/diffusion_pytorch_model.fp16.safetensors",
        samples=directory("training/samples/vae"),
        facts="training/vae.json",
    log:
        "logs/training/train_vae.log",
    benchmark:
        "benchmarks/training/train_vae.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], 1)
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=8000,
        runtime="2h",
    params:
        recipe=CONFIG["training"]["vae"],
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
        facts="training/clip.json",
    log:
        "logs/training/train_clip.log",
    benchmark:
        "benchmarks/training/train_clip.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], 1)
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=8000,
        runtime="2h",
    params:
        recipe=CONFIG["training"]["clip"],
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
        samples=directory("training/samples/unet"),
        facts="training/unet.json",
    log:
        "logs/training/train_unet.log",
    benchmark:
        "benchmarks/training/train_unet.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], 1)
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=8000,
        runtime="6h",
    params:
        recipe=CONFIG["training"]["unet"],
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
        evaluation="training/evaluation.json",
        samples=directory("training/samples/final"),
    log:
        "logs/training/evaluate_micro.log",
    benchmark:
        "benchmarks/training/evaluate_micro.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], 1)
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=8000,
        runtime="2h",
    params:
        device=CONFIG["device"],
        threads=1,
        captions=CONFIG["training"]["captions"],
        code=code("evaluate_micro"),
    script:
        "../scripts/evaluate_micro.py"


rule make_training_report:
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
        html="training/report.html",
        card="training/model_card.md",
    log:
        "logs/training/make_training_report.log",
    benchmark:
        "benchmarks/training/make_training_report.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=2000,
        runtime="10m",
    params:
        code=code("make_training_report"),
    script:
        "../scripts/make_training_report.py"
