"""What the rules of the submission ask: their inputs and parameters.

CONSUMES the checked configuration
PRODUCES names only
"""


def submitted_files(wildcards):
    """Everything that a submission tree is made from."""
    modes = [mode for mode in mlperf.MODES[:-1] if mode in LOADGEN["modes"]]
    logs = (
        "mlperf_log_summary.txt",
        "mlperf_log_detail.txt",
        "user.conf",
        "run.json",
    )
    names = [f"{mode}/{name}" for mode in modes for name in logs] + ["scores"]
    names += [f"audits/{test}" for test in LOADGEN_AUDITS]
    names += ["part_iii"] if LOADGEN["part_iii"] else []
    return [
        file
        for name in names
        for file in of_scenarios(name, SUBMITTED_SCENARIOS)(wildcards)
    ]


def starting_weights(wildcards):
    """Names of the weights that a variant starts from."""
    names = derive.variant_sources(CONFIG, wildcards.variant, SOURCES)
    return [name for name in names if name.endswith(".safetensors")]


def tree_to_check(wildcards):
    """The tree that the configuration names."""
    if CONFIG["tree"] is None:
        raise WorkflowError(
            "name the tree: snakemake check_tree --cores 1 --config tree=PATH"
        )
    return CONFIG["tree"]
