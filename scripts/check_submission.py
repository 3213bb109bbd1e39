"""Check a submission by our own rules, and by MLPerf's checker if a checkout is configured."""

import tempfile
from pathlib import Path

from t2i.base.files import read_json, write_json
from t2i.compliance.checkout import NO_CHECKOUT, open_checkout
from t2i.job.job import job
from t2i.loadgen.conf import shortened
from t2i.mlperf import CLOSED_SIDE, image_ids
from t2i.prompts.captions import read_captions, read_sample_ids
from t2i.submission import official
from t2i.submission.checks.run import run_checks
from t2i.submission.verdict import Expected, check_tree, recorded, submission_result

with job(snakemake) as terminal:
    params, inputs = snakemake.params, snakemake.input
    submission, tree = params.submission, Path(inputs.files).with_name("submission")
    scores = [read_json(Path(path, "accuracy.json")) for path in inputs.scores]
    verdicts = [read_json(Path(path)) for path in inputs.verdicts]
    built = read_json(Path(inputs.files))
    captions, windows = read_captions(Path(inputs.captions)), params.windows
    expected = Expected(
        round=params.round,
        division=params.division,
        system_type=submission["system_type"],
        submitter=submission["submitter"],
        system=submission["system"],
        captions=[row.caption for row in captions[: params.settings["count"]]],
        side=CLOSED_SIDE if params.division == "closed" else None,
        windows={key: tuple(windows[key]) for key in ("fid", "clip")} if windows else None,
        image_ids=image_ids(params.shown, read_sample_ids(Path(inputs.sample_ids))),
        files=built["files"],
        rehearsal=params.rehearsal,
        shortened=tuple(shortened(params.settings["time"], params.settings["count"])),
    )
    expected = recorded(expected, scores, verdicts)
    loadgen = Path(inputs.files).with_name("loadgen")
    checks = [*check_tree(tree, expected), *run_checks(tree, loadgen, built)]
    if params.checkout is None:
        verdict = official.not_run(NO_CHECKOUT, params.round)
    else:
        checkout = open_checkout(Path(params.checkout))
        with tempfile.TemporaryDirectory() as work:
            verdict = official.run_checker(checkout, tree, params.round, Path(work))
    result = submission_result(tree, expected, checks, verdict)
    write_json(Path(snakemake.output[0]), result)
    print(f"{snakemake.wildcards.variant}: {result['summary']}", file=terminal)
