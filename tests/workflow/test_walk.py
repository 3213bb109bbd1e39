"""The workflow as a whole: every file of a run, how it is written, and how it can be cut."""

import html
import json
import re

import pytest

from t2i.base.yaml import read_yaml
from t2i.config.check import RESERVED
from t2i.fetch.image_sets import read_list
from t2i.generate.shard import read_shard
from t2i.metrics.reference import read_part
from t2i.micro.pictures import file_name
from workflow_run import (
    CONFIGS,
    PROJECT,
    SHARDS,
    VARIANTS,
    Workplace,
    cut_off,
    of_rule,
    planned_jobs,
    rules,
)

RULE = re.compile(
    r"^(?:rule|checkpoint) (?P<name>\w+):\n(?P<body>(?:(?:    .*)?\n)+)", re.MULTILINE
)
RULE_FILES = sorted((PROJECT / "rules").glob("*.smk"))
RULES = {
    match["name"]: match["body"] for path in RULE_FILES for match in RULE.finditer(path.read_text())
}
OF_RUN = (
    *("comparison.json", "provenance.json", "report.html", "report.json"),
    *("summary.csv", "summary.md"),
)
OF_VARIANT = (
    "metrics.json",
    "judged.json",
    "compliance.json",
    "compliance_images/captions.txt",
)
# Rules of the training, which tests/training/test_workflow.py walks.
OF_TRAINING = (
    *("draw_training_images", "index_tar", "convert_moments", "encode_captions"),
    *("sample_checkpoint", "extract_checkpoint_features", "score_checkpoint"),
    *("write_training_log", "check_training", "make_training_report", "package_trainings"),
    *("sample_validation_captions", "resize_validation_images"),
    *("fetch_checksums", "fetch_training_tar", "train_segment"),
    *("filter_metadata", "fetch_training_images"),
)
# Rules that a tiny run has no use for: those of published inputs, and targets of their own.
ASIDE = (
    "fetch_images",
    "convert_",
    "build_tokenizer",
    "write_mirror",
    "calibrate_engine",
    "tokenize_calibration_captions",
    "compile_engine",
    "prune_unet",
    "recover_unet",
    "download_wheels",
    "sample_calibration_captions",
    "train_",
    "evaluate_micro",
    "make_micro_report",
    "free",
    "run_loadgen",
    "score_accuracy",
    "score_audit",
    "verify_audit",
    "judge_scenario",
    "fetch_checkout",
    "build_submission",
    "check_submission",
    "check_tree",
    *OF_TRAINING,
)
OF_DEMO = {  # which drives the model by LoadGen, too
    *("run_loadgen", "score_accuracy", "judge_scenario"),
    *("build_submission", "check_submission"),
}
OF_DATASET = ("captions.tsv", "latents.npy", "sample_ids.txt", "tokens.micro-sdxl.npz")


@pytest.mark.slow
def test_a_run_leaves_every_file(finished):
    results = finished.folder / "results/tiny"
    files = [results / name for name in OF_RUN]
    for variant in VARIANTS:
        files += [results / variant / name for name in (*OF_VARIANT, "engine/engine.json")]
        for shard in SHARDS:
            files += [results / variant / f"shards/{shard}.{kind}" for kind in ("tar", "json")]
            files.append(results / variant / f"features/{shard}.npz")
    files += [finished.folder / "resources/pictures" / name for name in OF_DATASET]
    assert [path for path in files if not path.is_file()] == []
    assert list(finished.folder.rglob("*.part")) == []
    beside = {path.name for path in results.iterdir() if not path.name.startswith(".")}
    assert beside - set(VARIANTS) <= set(RESERVED)  # names that no variant may have


@pytest.mark.slow
def test_every_shard_holds_its_samples(finished):
    for variant in VARIANTS:
        folder = finished.folder / f"results/tiny/{variant}/shards"
        samples = [
            sample.index
            for shard in SHARDS
            for sample, _ in read_shard(folder / f"{shard}.tar", folder / f"{shard}.json")
        ]
        assert samples == list(range(6))


@pytest.mark.slow
def test_every_job_leaves_a_log_and_a_benchmark(finished):
    logs, benchmarks = (
        {
            path.relative_to(finished.folder / folder).with_suffix("").as_posix()
            for path in (finished.folder / folder).rglob("*.*")
        }
        for folder in ("logs", "benchmarks")
    )
    assert logs == benchmarks
    words = {word for name in logs for word in name.split("/")}
    assert words >= {name for name in RULES if not name.startswith(ASIDE)}


@pytest.mark.slow
def test_the_report_says_what_a_small_run_of_a_miniature_is_not(finished):
    folder = finished.folder / "results/tiny"
    reasons = [
        entry["reason"]
        for entry in json.loads((folder / "report.json").read_text())["not_comparable"]
    ]
    assert "micro-sdxl is a miniature trained on drawn pictures" in reasons
    clip = "CLIP's network is micro-clip, not MLPerf's, and has weights trained on drawn pictures"
    assert clip in reasons
    assert "FID's network is micro-inception, not MLPerf's, and has random weights" in reasons
    assert "2 steps, MLPerf takes 20" in reasons
    assert "10 of the 10 compliance samples lie beyond the 6 samples of this run" in reasons
    page = html.unescape((folder / "report.html").read_text())
    assert [reason for reason in reasons if reason not in page] == []
    for variant in VARIANTS:
        compliance = json.loads(
            (finished.folder / f"results/tiny/{variant}/compliance.json").read_text()
        )
        verdicts = {check["id"]: check["verdict"] for check in compliance["checks"]}
        assert verdicts["images.compliance"] == "not applicable"
        assert verdicts["accuracy.fid"] == "not applicable"
        assert verdicts["pairing.clip"] != "not applicable"  # the scorer is trained
        assert verdicts["inputs.micro-clip/model.safetensors"] == "pass"


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in finished.snakemake()


@pytest.mark.slow
def test_a_run_survives_a_move_of_its_folder(workplace):
    assert workplace.plan() == set()


@pytest.mark.slow
def test_a_call_without_configuration_plans_the_demo(finished):
    bare = Workplace(finished.folder, config=())
    jobs = planned_jobs(bare.snakemake("--dry-run"))
    assert of_rule(jobs, "generate_shard") == {
        f"{variant} {first:05d}-{first + 64:05d}"
        for variant in VARIANTS
        for first in range(0, 128, 64)
    }
    assert of_rule(jobs, "extract_reference_features") == {
        f"pictures micro-inception {part}" for part in ("000-of-002", "001-of-002")
    }


@pytest.mark.slow
def test_the_embedded_picture_set_is_a_reference_set(workplace):
    """Two of its pictures through Inception; the tiny run has a smaller set of its own."""
    part = "255-of-256"
    features = f"resources/reference/pictures/features.micro-inception/{part}.npz"
    workplace.snakemake(features)
    listed = read_list(workplace.folder / "resources/reference/pictures/images.json")
    assert [entry.name for entry in listed] == [file_name(index) for index in range(512)]
    found = read_part(workplace.folder / features)
    assert found.index.tolist() == [510, 511]


@pytest.mark.slow
def test_a_model_of_the_table_brings_its_own_tokenizers_or_gets_sdxls(finished, tmp_path):
    table = read_yaml(PROJECT / "config/sources.yaml")
    own = table.pop("micro-sdxl")
    files = {
        name: facts for name, facts in own["files"].items() if not name.startswith("tokenizer/")
    }
    table["mine"] = {**own, "files": files}
    (tmp_path / "sources.yaml").write_text(json.dumps(table))
    jobs = finished.plan(overlay={"model": "mine", "sources": str(tmp_path / "sources.yaml")})
    assert of_rule(jobs, "fetch_source") == {f"mine/{name}" for name in files}
    assert of_rule(jobs, "build_tokenizer") == {"mine tokenizer"}
    assert of_rule(jobs, "tokenize_prompts") == {"pictures mine"}


@pytest.mark.slow
def test_the_rule_graph_names_every_rule_of_the_run(finished):
    graph = finished.snakemake("--rulegraph")
    walked = [name for name in RULES if not name.startswith(ASIDE)]
    assert [name for name in walked if f'"{name}"' not in graph] == []
    picture = (PROJECT / "docs" / "rulegraph.svg").read_text(encoding="utf-8")
    drawn = set(re.findall(r">(\w+)</text>", picture))
    assert drawn == {*walked, *OF_DEMO, "all"}  # draw it again when rules come or go


@pytest.mark.slow
def test_the_workflow_passes_lint(finished):
    assert "Congratulations" in Workplace(finished.folder, config=()).snakemake(
        "--lint", cores=None
    )


@pytest.mark.slow
def test_snakemakes_own_report_works_offline(finished, tmp_path):
    page = tmp_path / "report.html"
    finished.snakemake("--report", str(page), before=cut_off())
    assert "report.html" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_complete(name):
    body = RULES[name]
    directives = ["log", "conda", "container", "resources", "script"]
    # A benchmark counts as an output, so that a second `free` would find nothing to do.
    without = ("free", "check_tree")
    for directive in [*directives, *(["benchmark"] if name not in without else [])]:
        assert re.search(rf"^    {directive}:", body, re.MULTILINE), f"{name} has no {directive}"
    assert re.match(r'    """[A-Z].*\."""\n', body), f"{name} does not say what it does"
    assert f'"../scripts/{name}.py"' in body
    assert (PROJECT / f"scripts/{name}.py").is_file()
    # Pictures and commits are checked as they come; new code is no reason to fetch.
    if name not in ("fetch_images", "fetch_checkout", "fetch_training_images"):
        assert re.search(
            r"^        (code=code\(\""
            + name
            + r'"(, variant_backend|, training_modules)?\)'
            + r"|digest=(source_digest|list_digest)),",
            body,
            re.M,
        )


def test_every_script_has_its_rule():
    paths = (PROJECT / "scripts").glob("*.py")
    assert {path.stem for path in paths if "snakemake." in path.read_text()} == set(RULES)


@pytest.mark.parametrize("path", [PROJECT / "Snakefile", *RULE_FILES], ids=lambda path: path.name)
def test_rules_hold_no_code_of_their_own(path):
    text = path.read_text()
    assert not re.search(r"^ +run:", text, re.MULTILINE)
    assert "lambda" not in text
    commands = re.findall(r"^    shell:\n((?:        .*\n|\n)+)", text, re.MULTILINE)
    for command in commands:
        assert all(word.endswith(":q}") for word in re.findall(r"\{[^}]*\}", command))


def test_every_stage_says_what_it_consumes_and_produces():
    for path in RULE_FILES:
        head = path.read_text().split('"""')[1]
        assert "\nCONSUMES " in head and "\nPRODUCES " in head, path.name


@pytest.mark.slow
@pytest.mark.parametrize(("size", "cores"), [(2, 2), (6, 1)])
def test_no_cut_changes_a_pixel_or_a_score(finished, workplace, size, cores):
    for kind in ("shards", "features"):
        for path in (workplace.folder / f"results/tiny/fp32/{kind}").iterdir():
            path.unlink()
    workplace.snakemake("results/tiny/fp32/metrics.json", overlay={"shard_size": size}, cores=cores)
    assert len(list((workplace.folder / "results/tiny/fp32/shards").glob("*.tar"))) == 6 // size
    assert workplace.images("fp32") == finished.images("fp32")
    assert workplace.scores("fp32") == finished.scores("fp32")


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "new"), [(9, "00006-00009"), (7, "00006-00007")])
def test_more_samples_only_add_shards(finished, samples, new):
    jobs = finished.plan(overlay={"samples": samples})
    assert of_rule(jobs, "generate_shard") == {f"{variant} {new}" for variant in VARIANTS}
    assert of_rule(jobs, "extract_features") == {f"{variant} {new}" for variant in VARIANTS}
    assert rules(jobs).isdisjoint({"build_engine", "tokenize_prompts", "draw_pictures"})


@pytest.mark.slow
def test_all_mistakes_of_a_configuration_are_named_at_once(finished):
    place = Workplace(finished.folder, (CONFIGS / "mistakes.yaml",))
    said = place.snakemake(succeeds=False)
    assert "Traceback" not in said
    assert "Building DAG" not in said
    for mistake in (
        "samples: got 'six'",
        "shard_size: got 0",
        "device: got 'gpu'",
        "variants.fp32.dtype: got 'fp23'; allowed are fp32, fp16, bf16; did you mean 'fp32'?",
        "dataset: got 'picture'; known are pictures, coco2014-30k, coco2014; "
        "did you mean 'pictures'?",
    ):
        assert mistake in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overlay", "mistakes"),
    [
        ({"samples": 513}, ["samples: got 513; the data set pictures has 512"]),
        (
            {"samples": 24, "division": "closed"},
            ["samples: got 24; the closed division allows only 5000", "model: got 'micro-sdxl'"],
        ),
    ],
    ids=["beyond the data set", "closed division"],
)
def test_impossible_configurations_are_refused_before_any_job(finished, overlay, mistakes):
    said = finished.snakemake(overlay=overlay, succeeds=False)
    assert all(mistake in said for mistake in mistakes), said
    assert "Building DAG" not in said
