"""Prompts: the data set's captions and their token ids, always of the whole data set.

CONSUMES captions as published or annotations, CLIP's byte-pair merges or a model's own
PRODUCES resources/{dataset}/captions.tsv, resources/{dataset}/tokens.{model}.npz, on demand
  resources/{dataset}/calibration_captions.tsv, resources/{dataset}/calibration_tokens.{model}.npz
"""


rule sample_captions:
    """Choose the data set's captions by the reference's algorithm, or take the published ones."""
    input:
        dataset_source(),
    output:
        f"resources/{DATASET}/captions.tsv",
    log:
        f"logs/resources/sample_captions/{DATASET}.log",
    benchmark:
        f"benchmarks/resources/sample_captions/{DATASET}.tsv"
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=2000,
        runtime="10m",
    params:
        sha256=captions_digest(),
        code=code("sample_captions"),
    script:
        "../scripts/sample_captions.py"


rule sample_calibration_captions:
    """Choose the captions that quantised models are calibrated with, by their published ids."""
    input:
        annotations=f"resources/{DATASET}/annotations_trainval2014.zip",
        ids=f"resources/{DATASET}/coco_cal_captions_list.txt",
    output:
        f"resources/{DATASET}/calibration_captions.tsv",
    log:
        f"logs/resources/sample_calibration_captions/{DATASET}.log",
    benchmark:
        f"benchmarks/resources/sample_calibration_captions/{DATASET}.tsv"
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=2000,
        runtime="10m",
    params:
        code=code("sample_calibration_captions"),
    script:
        "../scripts/sample_calibration_captions.py"


rule build_tokenizer:
    """Rebuild one of SDXL's tokenizers from CLIP's merges, to the published digests."""
    input:
        tokenizer_config="config/models/sdxl-base-1.0/{tokenizer}/tokenizer_config.json",
        special_tokens_map="config/models/sdxl-base-1.0/{tokenizer}/special_tokens_map.json",
    output:
        expand("resources/{{model}}/{{tokenizer}}/{file}", file=needed.TOKENIZER_FILES),
    log:
        "logs/resources/build_tokenizer/{model}.{tokenizer}.log",
    benchmark:
        "benchmarks/resources/build_tokenizer/{model}.{tokenizer}.tsv"
    wildcard_constraints:
        model=f"(?!(?:{OWN_TOKENIZERS})/){MODEL_PATTERN}",
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code("build_tokenizer"),
    script:
        "../scripts/build_tokenizer.py"


rule tokenize_prompts:
    """Tokenise all captions and the negative prompt with both tokenizers."""
    input:
        captions="resources/{dataset}/captions.tsv",
        tokenizer=tokenizer_files,
    output:
        tokens="resources/{dataset}/tokens.{model}.npz",
        truncated="resources/{dataset}/truncated.{model}.json",
    log:
        "logs/resources/tokenize_prompts/{dataset}.{model}.log",
    benchmark:
        "benchmarks/resources/tokenize_prompts/{dataset}.{model}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        negative_prompt=CONFIG["sampler"]["negative_prompt"],
        code=code("tokenize_prompts"),
    script:
        "../scripts/tokenize_prompts.py"


use rule tokenize_prompts as tokenize_calibration_captions with:
    input:
        captions="resources/{dataset}/calibration_captions.tsv",
        tokenizer=tokenizer_files,
    output:
        tokens="resources/{dataset}/calibration_tokens.{model}.npz",
        truncated="resources/{dataset}/calibration_truncated.{model}.json",
    log:
        "logs/resources/tokenize_calibration_captions/{dataset}.{model}.log",
    benchmark:
        "benchmarks/resources/tokenize_calibration_captions/{dataset}.{model}.tsv"
