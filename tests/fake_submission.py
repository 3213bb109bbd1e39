"""A submission of made-up runs, and what it is judged by."""

import json
from pathlib import Path
from typing import Any

from fake_loadgen import SIDE, captions, write_variant
from t2i.loadgen.rounds import AUDITS, required_scenarios
from t2i.submission.checks import Expected
from t2i.submission.system import FIELDS, GIVEN_ELSEWHERE
from t2i.submission.tree import TreeRequest, build_tree

DESCRIPTION = {name: "said in words" for name in FIELDS if name not in GIVEN_ELSEWHERE} | {
    "number_of_nodes": 1,
    "accelerators_per_node": "0",
}


def build_submission(
    root: Path,
    round_name: str = "v6.1",
    system_type: str = "edge",
    division: str = "closed",
    **settings: Any,
) -> Expected:
    """Build root/tree of fresh runs in root/loadgen; return what the tree is judged by."""
    scenarios = required_scenarios(round_name, division, system_type)
    write_variant(root / "loadgen", scenarios, round_name, **settings)
    request = TreeRequest(
        round=round_name,
        division=division,
        run="fake",
        variant="fp32",
        submission={
            "submitter": "acme",
            "system": "my-box",
            "system_type": system_type,
            "status": "available",
            "description": DESCRIPTION,
        },
        settings={"dtype": "fp32"},
        model="sdxl-base-1.0",
        weights=("unet/diffusion_pytorch_model.safetensors",),
        patch=None,
        scenarios=scenarios,
        audits=AUDITS,
        commit="c" * 40,
        dirty=False,
        command="snakemake",
        config="round: v6.1\n",
    )
    build_tree(root / "tree", root / "loadgen", request)
    scores = {
        scenario: json.loads((root / "loadgen" / scenario / "scores/accuracy.json").read_text())
        for scenario in scenarios
    }
    return Expected(
        round=round_name,
        division=division,
        system_type=system_type,
        submitter="acme",
        system="my-box",
        captions=captions(),
        side=settings.get("side", SIDE),
        images={name: score["compliance_images"] for name, score in scores.items()},
        logs={name: score["log"]["sha256"] for name, score in scores.items()},
    )
