"""A submission of made-up runs, and what it is judged by."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from fake_loadgen import SIDE, captions, write_json, write_variant
from fake_system import SUBMISSION
from t2i.mlperf import AUDITS, INFERRED, required_scenarios
from t2i.submission.system import FIELDS, GIVEN_ELSEWHERE
from t2i.submission.tree import TreeRequest, build_tree, request_record
from t2i.submission.verdict import Expected

IN_WORDS = {name: "said in words" for name in FIELDS if name not in GIVEN_ELSEWHERE} | {
    "number_of_nodes": 1,
    "accelerators_per_node": "0",
    "accelerator_model_name": "N/A",
    "host_processor_model_name": "Fake CPU",
}
WEIGHTS = ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors")


def tree_request(
    round_name: str = "v6.1", division: str = "closed", system_type: str = "edge", **changes: Any
) -> TreeRequest:
    """What the tree of a sound run is made of, with other values of its fields."""
    request = TreeRequest(
        round=round_name,
        division=division,
        run="mlperf",
        variant="fp32",
        submission={**SUBMISSION, "system_type": system_type},
        settings={"dtype": "fp32", "batch_size": 4, "patch": None, "stand_in": None},
        model="sdxl-base-1.0",
        weights=WEIGHTS,
        patch=None,
        scenarios=required_scenarios(round_name, division, system_type),
        audits=AUDITS if division == "closed" else (),
        commit="0123456789abcdef",
        dirty=False,
        command="snakemake --configfile config/mlperf.yaml --cores all",
        config="run: mlperf\n",
        source=Path(__file__).parents[2],
    )
    return replace(request, **changes)


def build_submission(
    root: Path,
    round_name: str = "v6.1",
    system_type: str = "edge",
    division: str = "closed",
    inferred: bool = False,
    system: str = SUBMISSION["system"],
    **settings: Any,
) -> Expected:
    """Build root/tree of fresh runs in root/loadgen; return what the tree is judged by."""
    submission = {**SUBMISSION, "system_type": system_type, "description": IN_WORDS}
    submission["system"] = system
    request = tree_request(round_name, division, system_type, submission=submission)
    if inferred:
        request = replace(request, scenarios=("SingleStream",), inferred=dict(INFERRED))
    write_variant(root / "loadgen", request.scenarios, round_name, **settings)
    files = build_tree(root / "tree", root / "loadgen", request)
    built = {"schema": 1, "request": request_record(request), "files": files}
    write_json(root / "submission_files.json", built)
    scores = {
        scenario: json.loads((root / "loadgen" / scenario / "scores/accuracy.json").read_text())
        for scenario in request.scenarios
    }
    return Expected(
        round=round_name,
        division=division,
        system_type=system_type,
        submitter=submission["submitter"],
        system=submission["system"],
        captions=captions(),
        side=settings.get("side", SIDE),
        images={name: score["compliance_images"] for name, score in scores.items()},
        logs={name: score["log"]["sha256"] for name, score in scores.items()},
    )
