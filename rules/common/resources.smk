"""Threads and GPUs of jobs.

CONSUMES the checked configuration
PRODUCES numbers only
"""

from t2i.job import device as devices

CLUSTER_THREADS = 8  # of a GPU job, where Snakemake does not share out the cores


def growing(first):
    """Memory in MB or minutes of a job, half as much more at each further attempt.

    `first` is a number, or a function of the wildcards.
    """

    def resource(wildcards, attempt):
        value = first(wildcards) if callable(first) else first
        return value * (attempt + 1) // 2

    return resource


def device_gpus(device):
    """GPUs that a job on this device holds."""
    return 1 if device == "cuda" else 0


def device_threads(device, threads):
    """Threads to ask the scheduler for: on a GPU, as many as start one job for each GPU.

    How many threads torch uses is the variant's business and does not follow from this.
    """
    if device == "cpu":
        return threads
    try:
        cores = workflow.cores
    except WorkflowError:  # no cores are named, where nothing is to be run
        cores = None
    if cores is None:
        return CLUSTER_THREADS
    return max(1, cores // devices.local_gpus())


def variant_gpus(wildcards):
    """GPUs of a variant's jobs."""
    return device_gpus(variant_settings(wildcards)["device"])


def variant_threads(wildcards):
    """Threads of a variant's jobs."""
    variant = variant_settings(wildcards)
    return device_threads(variant["device"], variant["threads"])
