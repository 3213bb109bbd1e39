"""Edits of the library, and the rules that each of them may run again: those it can change."""

import shutil
from pathlib import Path

import pytest

from t2i.base import code_digest
from t2i.base.backends import BACKENDS, FP8, NATIVE

CALIBRATING = {"calibrate_engine"}  # runs the native loop itself, whatever the variant
SCRIPTS = Path(__file__).parents[2] / "scripts"
# Rules that may hold a GPU for long.
GPU_RULES = {
    "calibrate_engine",
    "compile_engine",
    "generate_shard",
    "extract_features",
    "extract_reference_features",
    "run_loadgen",
    "score_accuracy",
    "score_audit",
    "train_vae",
    "train_clip",
    "train_unet",
    "evaluate_micro",
    "convert_moments",
    "encode_captions",
    "train_network",
    "sample_checkpoint",
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    ignore = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(SCRIPTS, tmp_path_factory.mktemp("edits") / "scripts", ignore=ignore)


PARSED: dict[Path, code_digest._Module] = {}


@pytest.fixture(autouse=True)
def parsed_once(monkeypatch) -> None:
    """Files of these tests change, which those of a run do not: what changed is parsed again."""

    def parsed(path: Path) -> code_digest._Module:
        if path not in PARSED:
            PARSED[path] = code_digest._Module(path)
        return PARSED[path]

    monkeypatch.setattr(code_digest, "_parsed", parsed)


BEFORE: dict[str, str] = {}


@pytest.fixture
def before(copy: Path) -> dict[str, str]:
    """The digests before an edit, taken once."""
    if not BEFORE:
        BEFORE.update(digests(copy))
    return BEFORE


def digests(scripts: Path) -> dict[str, str]:
    """The digest of each rule's code."""
    return {path.stem: code_digest.code_digest(path) for path in sorted(scripts.glob("*.py"))}


def run_again(copy: Path, before: dict[str, str], module: str, old: str, new: str) -> set[str]:
    path = copy / "t2i" / module
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1, f"{module} has no {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    PARSED.pop(path, None)
    try:
        after = digests(copy)
    finally:
        path.write_text(text, encoding="utf-8")
        PARSED.pop(path, None)
    return {rule for rule in before if before[rule] != after[rule]}


SAMPLING = {"generate_shard", "run_loadgen", "train_unet", "evaluate_micro"}
EDITS = [
    ("the disk-full message", "job/disk.py", "free: make room", "left: make room", set()),
    ("the progress line", "job/progress.py", "left", "to go", set()),
    ("a configuration error", "config/explain.py", "such as 1000", "like 1000", set()),
    (
        "a new round of MLPerf",
        "mlperf.py",
        '        Round(\n            "v6.1",',
        '        Round("v7.0", 1, 2, 3, (4,)),\n        Round(\n            "v6.1",',
        {"build_submission", "check_submission", "check_tree", "judge_scenario"},
    ),
    (
        "a phrase of the drawn pictures",
        "micro/pictures.py",
        "PHRASES = (",
        'PHRASES = ("a {colour} thing",',
        {
            "draw_pictures",
            "draw_training_images",
            "recover_unet",
            "train_clip",
            "train_unet",
            "evaluate_micro",
            "make_micro_report",
        },
    ),
    (
        "the rounding of pixels",
        "engine/reference.py",
        ".round()",
        ".floor()",
        SAMPLING | {"compile_engine"},
    ),
    (
        "a cast of weights",
        "engine/build.py",
        ".to(dtype)",
        ".to(dtype).clone()",
        {"build_engine", "calibrate_engine"},
    ),
    ("a tensor that is missing", "engine/weights.py", "do not fit", "misfit", set()),
    (
        "the batches of a shard",
        "generate/plan.py",
        "batch_size)]",
        "batch_size + 0)]",
        {"generate_shard", "sample_checkpoint"},
    ),
    (
        "what a journal is of",
        "generate/journal.py",
        "self._last = sha256_json(dict(origin))",
        "self._last = sha256_json([*origin])",
        {"generate_shard", "sample_checkpoint"},
    ),
    (
        "a scale in FID",
        "metrics/fid.py",
        "np.cov",
        "2 * np.cov",
        {
            "compute_reference_statistics",
            "reduce_metrics",
            "score_accuracy",
            "score_audit",
            "score_checkpoint",
            "evaluate_micro",
        },
    ),
    (
        "the scale of CLIP",
        "metrics/clip.py",
        "SCALE = ",
        "SCALE = 2 * ",
        {"extract_features", "score_accuracy", "score_audit", "train_clip", "evaluate_micro"},
    ),
    (
        "the cleaning of captions",
        "prompts/captions.py",
        'entry["caption"].replace("\\n", "")',
        'entry["caption"].replace("\\n", " ")',
        {"sample_captions", "sample_calibration_captions"},
    ),
    (
        "the batcher of LoadGen",
        "loadgen/sut.py",
        "arrived + self",
        "arrived + 2 * self",
        {"run_loadgen"},
    ),
    ("an error of LoadGen", "loadgen/run.py", "fewer than the", "less than the", set()),
    (
        "the text of a check",
        "compliance/rules.py",
        "LoadGen found the result VALID",
        "LoadGen says VALID",
        {"check_compliance", "check_submission", "check_tree", "judge_scenario"},
    ),
    (
        "the page of a submission",
        "submission/texts.py",
        "Nothing was",
        "Nothing at all was",
        {"build_submission", "check_submission", "check_tree"},
    ),
    ("a fact of the machine", "job/machine.py", "GPU_SECONDS = 60", "GPU_SECONDS = 61", set()),
    (
        "an interval",
        "base/stats.py",
        "Z95 = ",
        "Z95 = 1 * ",
        {
            "reduce_metrics",
            "compare_variants",
            "score_accuracy",
            "score_checkpoint",
            "judge_pictures",
            "make_micro_report",
        },
    ),
    (
        "the steps of a training's sampler",
        "training/noise.py",
        "scheduler.set_timesteps(steps)",
        "scheduler.set_timesteps(steps + 0)",
        {"sample_checkpoint"},
    ),
    (
        "the preparation of training images",
        "training/images.py",
        "2 * cut - 1",
        "cut",
        {"convert_moments"},
    ),
    ("a setting of a variant", "config/derive.py", "float(sampler", "1 * float(sampler", set()),
    (
        "a retry of downloads",
        "fetch/transfer.py",
        "time.sleep(pause)",
        "time.sleep(2 * pause)",
        {"fetch_source", "fetch_images", "fetch_checksums", "fetch_training_tar"},
    ),
    (
        "the filter of metadata",
        "training/metadata.py",
        "fill_null(known, True)",
        "fill_null(known, False)",
        {"filter_metadata"},
    ),
]


@pytest.mark.parametrize(
    ("what", "module", "old", "new", "expected"), EDITS, ids=[edit[0] for edit in EDITS]
)
def test_an_edit_runs_again_what_it_can_change(copy, before, what, module, old, new, expected):
    assert run_again(copy, before, module, old, new) == expected


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("engine/loop.py", "derivative * (following - sigma)", "derivative * (sigma - following)"),
        ("engine/unet.py", "skips.pop()]", "skips.pop(0)]"),
        ("engine/vae.py", "/ self.scaling_factor", "* self.scaling_factor"),
        ("engine/operations.py", "F.gelu(gate)", "F.silu(gate)"),
        ("engine/kernels/norms.py", "num_warps=8", "num_warps=4"),
        ("engine/cache.py", "% cache", "// cache"),
    ],
)
def test_an_edit_of_a_back_end_runs_its_own_variants_again(copy, before, module, old, new):
    """Shards, LoadGen's runs and compiled kernels of native variants, and no others'."""
    rules = ("generate_shard", "run_loadgen", "compile_engine")

    def native() -> dict[str, str]:
        paths = [copy / f"{rule}.py" for rule in rules]
        return {path.stem: code_digest.code_digest(path, BACKENDS[NATIVE]) for path in paths}

    own = native()
    path = copy / "t2i" / module
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    PARSED.pop(path, None)
    try:
        assert all(own[rule] != digest for rule, digest in native().items())
        others, kept = (
            {rule: digest for rule, digest in taken.items() if rule not in CALIBRATING}
            for taken in (digests(copy), before)
        )
        assert others == kept or module == "engine/cache.py"
        assert digests(copy)["generate_shard"] == before["generate_shard"]
    finally:
        path.write_text(text, encoding="utf-8")
        PARSED.pop(path, None)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("layers.py", "% 16", "% 32"),
        ("product.cu", "128", "256"),
        ("attention.cu", "128", "256"),
        ("hopper.cuh", "128", "256"),
    ],
)
def test_an_edit_of_a_kernel_in_cuda_runs_fp8_variants_again_and_no_others(copy, name, old, new):
    path = copy / "t2i" / "engine" / "kernels" / "hopper" / name

    def taken() -> list[str]:
        PARSED.pop(path, None)
        kinds = BACKENDS[NATIVE], (*BACKENDS[NATIVE], FP8)
        return [code_digest.code_digest(copy / "generate_shard.py", kind) for kind in kinds]

    native, fp8 = taken()
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    try:
        assert taken()[0] == native
        assert taken()[1] != fp8
        assert digests(copy)["calibrate_engine"] == code_digest.code_digest(
            SCRIPTS / "calibrate_engine.py"
        )
    finally:
        path.write_text(text, encoding="utf-8")
        PARSED.pop(path, None)


@pytest.mark.parametrize("module", ["trainer", "steps", "noise", "unet", "checkpoints", "tars"])
def test_an_edit_of_what_torchrun_loads_trains_again(module: str) -> None:
    reached = code_digest.code_definitions(SCRIPTS / "train_network.py", ("t2i.training.rank",))
    assert f"t2i/training/{module}.py" in reached


def test_most_edits_of_the_table_touch_no_gpu_rule_or_only_what_they_change():
    harmless = [edit for edit in EDITS if not edit[4] & GPU_RULES]
    assert len(harmless) >= 9


def reached(scripts: Path, rule: str) -> set[str]:
    files = code_digest.code_definitions(scripts / f"{rule}.py")
    return {name.removeprefix("t2i/") for name in files if name.startswith("t2i/")}


def test_the_table_covers_every_package_that_a_gpu_rule_reaches(copy: Path):
    packages = {name.split("/")[0] for rule in GPU_RULES for name in reached(copy, rule)}
    covered = {module.split("/")[0] for _, module, _, _, _ in EDITS}
    assert packages <= covered
