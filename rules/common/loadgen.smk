"""What the rules of LoadGen and of the submission share: names of files, settings, resources.

CONSUMES the checked configuration
PRODUCES names only
"""

import os

LOADGEN = CONFIG["loadgen"]
LOADGEN_SCENARIOS = LOADGEN["scenarios"] if LOADGEN else []
LOADGEN_AUDITS = [
    test for test in mlperf.AUDITS if LOADGEN and test in LOADGEN["modes"]
]
LOADGEN_VARIANTS = derive.loadgen_variants(CONFIG)
SUBMITTED_SCENARIOS = derive.submitted_scenarios(CONFIG)
# One file represents the whole submission: Snakemake writes a hidden file into folders.
SUBMITTED_SYSTEM = "submission/{division}/{submitter}/systems/{system}.json".format(
    division=CONFIG["division"],
    **(CONFIG["submission"] or {"submitter": "none", "system": "none"}),
)
# Tables are not Python, so they count as inputs.
OFFICIAL_MESSAGES, MENDING = (
    os.path.relpath(Path(workflow.basedir, "scripts/t2i", table))
    for table in ("compliance/messages.yaml", "submission/checks/mending.yaml")
)
FETCHED_CHECKOUT = "resources/mlcommons-inference"
CHECKOUT = (
    FETCHED_CHECKOUT
    if CONFIG["inference_checkout"] == "fetch"
    else CONFIG["inference_checkout"]
)


wildcard_constraints:
    scenario="|".join(mlperf.SCENARIOS),
    mode="|".join(mlperf.MODES),
    test="|".join(mlperf.AUDITS),


def scenario_file(name):
    """A file of one scenario of a variant."""
    return variant_file(f"loadgen/{{scenario}}/{name}")


def scenario_modes(scenario):
    """Modes that are run in a scenario, in order."""
    return [
        mode
        for mode in mlperf.MODES
        if mode in LOADGEN["modes"]
        and (mode != "FindPeakPerformance" or scenario == "Server")
    ]


def of_scenarios(pattern, scenarios=LOADGEN_SCENARIOS):
    """A function that names a variant's files for all scenarios that LoadGen runs it in."""

    def files(wildcards):
        if wildcards.variant not in LOADGEN_VARIANTS:
            return []
        return expand(
            variant_file(f"loadgen/{{scenario}}/{pattern}"),
            scenario=scenarios,
            run=wildcards.run,
            variant=wildcards.variant,
        )

    return files


def of_driven_variants(pattern):
    """A run's files for all variants that LoadGen drives."""
    return expand(run_file(pattern), variant=LOADGEN_VARIANTS, allow_missing=True)


def of_driven_scenarios(pattern):
    """A run's files for all scenarios of all variants that LoadGen drives."""
    return expand(
        run_file(f"{{variant}}/loadgen/{{scenario}}/{pattern}"),
        variant=LOADGEN_VARIANTS,
        scenario=LOADGEN_SCENARIOS,
        allow_missing=True,
    )


def of_timed_scenarios(pattern):
    """The same, where performance is measured."""
    measured = LOADGEN is not None and "performance" in LOADGEN["modes"]
    return of_driven_scenarios(pattern) if measured else []


def facts_of_machine():
    """Files that record software and device: of all shards, or of LoadGen's tests without them."""
    if CONFIG["sharded"]:
        return of_all_shards("shards/{shard}.json")
    return of_driven_scenarios("performance/run.json")


def submission_of(wildcards):
    """The checked submission of a variant, if it has one."""
    if CONFIG["submission"] is None or wildcards.variant not in LOADGEN_VARIANTS:
        return []
    return variant_file("submission.json").format(**wildcards)


def submissions():
    """The checked submissions of a run."""
    if CONFIG["submission"] is None:
        return []
    return of_driven_variants("{variant}/submission.json")


def checkout_files():
    """The checkout of mlcommons/inference, if the workflow has to fetch it."""
    return FETCHED_CHECKOUT if CHECKOUT == FETCHED_CHECKOUT else []


def loadgen_settings(wildcards):
    """LoadGen's settings for a variant, with the number of its workers."""
    return derive.loadgen_settings(CONFIG, wildcards.variant)


def loadgen_results():
    """Files of LoadGen's runs that are kept, and the submissions, relative to the run's folder."""
    names = ["verdict.json"]
    for name in ("summary.txt", "detail.txt", "trace.json"):
        names.append(f"{{mode}}/mlperf_log_{name}")
    if LOADGEN and LOADGEN["keep_logs"]:
        names.append("{mode}/mlperf_log_accuracy.json")
    names += ["{mode}/latencies.npy", "{mode}/user.conf", "{mode}/run.json"]
    files = []
    for scenario in LOADGEN_SCENARIOS:
        modes = scenario_modes(scenario)
        patterns = expand(names, mode=modes, allow_missing=True)
        if "accuracy" in modes:
            patterns.append("scores")
        patterns += [f"audits/{test}" for test in LOADGEN_AUDITS]
        patterns += ["part_iii"] if LOADGEN["part_iii"] else []
        files += [f"{{variant}}/loadgen/{scenario}/{name}" for name in patterns]
    if CONFIG["submission"] is not None:
        files += [f"{{variant}}/{SUBMITTED_SYSTEM}", "{variant}/submission.json"]
    return expand(sorted(set(files)), variant=LOADGEN_VARIANTS)


def kept_log(name):
    """An accuracy log, which is removed once it was read where the configuration says so."""
    return name if LOADGEN is None or LOADGEN["keep_logs"] else temp(name)


def scenario_scores(wildcards):
    """The scores of a scenario, if its accuracy is measured."""
    scores = scenario_file("scores").format(**wildcards)
    return scores if "accuracy" in LOADGEN["modes"] else []


def scenario_audits(wildcards):
    """The verified audits of a scenario."""
    return expand(scenario_file("audits/{test}"), test=LOADGEN_AUDITS, **wildcards)


def audited_log(wildcards):
    """The whole accuracy log, which only TEST01 compares with."""
    log = scenario_file("accuracy/mlperf_log_accuracy.json").format(**wildcards)
    return log if wildcards.test == "TEST01" else []


def of_modes(*names):
    """A function that names a scenario's files for all modes."""

    def files(wildcards):
        return expand(
            scenario_file("{mode}/{name}"),
            mode=scenario_modes(wildcards.scenario),
            name=names,
            **wildcards,
        )

    return files


def features_at_hand():
    """Features of the shards, which spare those of the same images in LoadGen's log."""
    return of_shards("features/{shard}.npz") if CONFIG["sharded"] else []


def own_conf(wildcards):
    """A user.conf of the user's own, if there is one."""
    return LOADGEN.get("user_conf", [])


def own_audit_conf(wildcards):
    """An audit.config of the user's own, if there is one for the mode."""
    return LOADGEN["audit_conf"].get(wildcards.mode, [])


def loadgen_threads(wildcards):
    """Threads of a run of LoadGen: all workers' on a CPU."""
    variant = variant_settings(wildcards)
    workers = loadgen_settings(wildcards)["workers"]
    if variant["device"] == "cpu":
        return variant["threads"] * workers
    return variant_threads(wildcards) * workers


def loadgen_gpus(wildcards):
    """GPUs of a run of LoadGen: one for each worker."""
    return variant_gpus(wildcards) * loadgen_settings(wildcards)["workers"]


def loadgen_memory(wildcards):
    """Megabytes of a run of LoadGen: LoadGen's own, and those of its workers."""
    worker = 48000 if MODEL != embedded.MODEL else 2000
    return 2000 + worker * loadgen_settings(wildcards)["workers"]
