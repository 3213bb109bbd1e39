"""What the rules of training ask: their inputs and parameters.

CONSUMES the checked configuration
PRODUCES names only
"""

import os

from t2i.base.files import read_json
from t2i.training import mllog, reporting
from t2i.training import settings as training_settings

TRAINING = CONFIG["training"]
TRAINED = "results/{run}/training/{repeat}"
SD2 = needed.SD2
SD2_FILES = {  # converted from its checkpoint
    "vae": ["config.json", "diffusion_pytorch_model.safetensors"],
    "text_encoder": ["config.json", "model.safetensors"],
    "tokenizer": needed.TOKENIZER_FILES,
}


def training_results(wildcards):
    """Every file of a training that is kept."""
    if TRAINING is None:
        raise WorkflowError(
            "the configuration has no section `training`: take config/training_micro.yaml, or "
            "write one as docs/training.md says"
        )
    check_nodes()
    of_each = ["scores/{step:09d}.json"]
    of_each += expand(
        "shards/{{step:09d}}/{shard}.{ending}", shard=SHARDS, ending=["tar", "json"]
    )
    if TRAINING["segments"]:
        of_each += ["segments/step-{step:09d}.safetensors"]
    files = []
    for repeat in range(TRAINING["runs"]):
        folder = f"results/{RUN}/training/{repeat}"
        names = ["report.html", "verdict.json", f"result_{repeat}.txt"]
        files += [f"{folder}/{name}" for name in names]
        if not TRAINING["segments"]:
            files += expand(trained_weights(), run=RUN, repeat=repeat)
        steps = evaluated(RUN, repeat)
        files += expand([f"{folder}/{name}" for name in of_each], step=steps)
        files.append(facts_file(RUN, repeat))
    # A single training is no submission.
    return files + (
        [f"results/{RUN}/training/package.json"] if TRAINING["runs"] > 1 else []
    )


def check_nodes():
    """Refuse before the first job what would fail in the job of the training."""
    executes = workflow.executor_plugin is not None and not workflow.dryrun
    alone = executes and workflow.local_exec
    if TRAINING["nodes"] > 1 and alone and "SLURM_JOB_ID" not in os.environ:
        raise WorkflowError(
            f"training.nodes is {TRAINING['nodes']}, and this runs on one machine; start with "
            "--profile slurm, or set it to 1"
        )


def trained_weights():
    """The weights of all checkpoints of a training."""
    return expand(
        f"{TRAINED}/checkpoints/step-{{step:09d}}.safetensors",
        step=training_settings.checkpoints(TRAINING),
        allow_missing=True,
    )


def training_inputs():
    """Data and frozen networks of a training, by name."""
    return {
        "tars": training_tars(),
        "indices": of_tars("resources/training/{set}/moments/{tar}.index.npz"),
        "hidden": training_hidden("npy"),
        "digests": training_hidden("digests.npy"),
        "encoder": frozen_files("text_encoder"),
        "tokenizer": frozen_files("tokenizer"),
    }


def previous_segment(wildcards):
    """The weights of the checkpoint that a segment begins with."""
    steps = training_settings.checkpoints(TRAINING)
    before = [step for step in steps if step < int(wildcards.step)][-1:]
    folder = f"results/{wildcards.run}/training/{wildcards.repeat}/segments"
    return expand(f"{folder}/step-{{step:09d}}.safetensors", step=before)


def segment_request(wildcards):
    """What the processes of a segment are asked: a training up to its checkpoint."""
    shorter = {**TRAINING, "steps": int(wildcards.step)}
    return training_settings.request(shorter, CONFIG["device"], int(wildcards.repeat))


def checkpoint_inputs():
    """Weights of a checkpoint, and what the training says of them, by name."""
    if TRAINING["segments"]:
        return {
            "facts": f"{TRAINED}/segments/step-{{step}}.json",
            "weights": f"{TRAINED}/segments/step-{{step}}.safetensors",
        }
    return {
        "facts": f"{TRAINED}/training.json",
        "weights": f"{TRAINED}/checkpoints/step-{{step}}.safetensors",
        # Else a training that lacks its last ones would count as finished here.
        "trained": trained_weights(),
    }


def facts_file(run, repeat):
    """What a training says of itself, up to the last checkpoint that is evaluated."""
    folder = f"results/{run}/training/{repeat}"
    if not TRAINING["segments"]:
        return f"{folder}/training.json"
    return f"{folder}/segments/step-{evaluated(run, repeat)[-1]:09d}.json"


def training_facts(wildcards):
    """What the training of the wildcards says of itself."""
    return facts_file(wildcards.run, wildcards.repeat)


def first_training_facts(wildcards):
    """What the first training says of itself."""
    return facts_file(wildcards.run, 0)


def sampling():
    """How pictures of a checkpoint are made; which are evaluated changes none of them."""
    keys = "steps", "guidance", "batch_size", "seed"
    return {key: TRAINING["evaluation"][key] for key in keys}


def of_runs(pattern):
    """A function that names a file of each of a configuration's trainings."""

    def files(wildcards):
        folder = f"results/{wildcards.run}/training/{{repeat}}"
        return expand(f"{folder}/{pattern}", repeat=range(TRAINING["runs"]))

    return files


def training_request(wildcards):
    """What the processes of a training are asked."""
    return training_settings.request(TRAINING, CONFIG["device"], int(wildcards.repeat))


def training_submitter():
    """Who trains, for the log; no one in particular where the configuration does not say."""
    submission = CONFIG["submission"] or {}
    return {
        "organisation": submission.get("submitter", "unnamed"),
        "platform": submission.get("system", "this-machine"),
        "status": TRAINING["status"],
        "division": CONFIG["division"],
    }


def given_tar(wildcards):
    """A tar of the set as it is drawn, fetched or given."""
    return f"{given_folder()}/{wildcards.tar}.tar"


def given_folder():
    """The folder of tars as they are drawn, fetched or given."""
    data = TRAINING["data"]
    if data["published"]:
        return f"resources/training/{data['name']}/published"
    if data["metadata"]:
        return f"resources/training/{data['name']}/downloaded"
    return data["folder"] or "resources/training/pictures/images"


def list_digest(wildcards):
    """What a set's list must be, which pins its tars. Another address brings nothing new."""
    published = TRAINING["data"]["published"]
    return published and published["sha256"]


def fetched_tars():
    """Tars of a training that can be fetched."""
    if TRAINING and (TRAINING["data"]["published"] or TRAINING["data"]["metadata"]):
        return given_tars()
    return []


def metadata_part(wildcards):
    """A part of LAION's metadata."""
    folder = TRAINING["data"]["metadata"]["folder"]
    return training_settings.metadata_parts(folder, int(wildcards.metadata))


def metadata_pieces():
    """How many tars are made of a part of LAION's metadata."""
    metadata = TRAINING and TRAINING["data"]["metadata"]
    return metadata["pieces"] if metadata else 1


def metadata_rows(wildcards):
    """The most rows of a piece of LAION's metadata."""
    return TRAINING["data"]["metadata"]["rows"]


def metadata_piece(wildcards):
    """The piece of LAION's metadata that names a tar's images."""
    part, piece = divmod(int(wildcards.tar), metadata_pieces())
    return f"resources/training/{wildcards.set}/metadata/{part:05d}/{piece:05d}.parquet"


def given_tars():
    """All tars of the set as they are drawn, fetched or given, in order."""
    return of_tars(f"{given_folder()}/{{tar}}.tar")


def moments_tar(wildcards):
    """A tar of moments, as given or converted."""
    if TRAINING["data"]["kind"] == "moments":
        return given_tar(wildcards)
    return f"resources/training/{wildcards.set}/moments/{wildcards.tar}.tar"


def indexed_tar(wildcards):
    """The tar that an index is of."""
    return {"moments": moments_tar, "images": given_tar}[wildcards.kind](wildcards)


def frozen_files(part):
    """Files of a part of the frozen model, which lie in one folder."""
    frozen = TRAINING["frozen"]
    if frozen["model"] == SD2:
        return [f"resources/{SD2}/{part}/{file}" for file in SD2_FILES[part]]
    folder = f"{frozen['model']}/{frozen.get(part, part)}/"
    names = [name for name in SOURCES if name.startswith(folder)]
    return [f"resources/{name}" for name in sorted(names)]


def of_tars(pattern):
    """A pattern's file for each tar of the set, in order."""
    data = TRAINING["data"]
    names = [f"{number:05d}" for number in range(data["tars"])]
    return expand(pattern, set=data["name"], tar=names)


def training_tars():
    """Tars of moments, in order."""
    if TRAINING["data"]["kind"] == "images":
        return of_tars("resources/training/{set}/moments/{tar}.tar")
    return given_tars()


def training_hidden(ending):
    """Hidden states of captions or their digests, where they are encoded ahead."""
    if TRAINING["captions"] == "online":
        return []
    return of_tars(f"resources/training/{{set}}/hidden/{{tar}}.{ending}")


def node_gpus():
    """GPUs of a training on each of its nodes."""
    return TRAINING["processes"] * device_gpus(CONFIG["device"])


def nodes_of_slurm():
    """What Slurm's executor is asked for a training on several nodes: a task on each.

    `mpi` leaves it to the job to start its tasks. GPUs of a node have to be said, too, since their
    sum could be shared out unevenly; `tasks_per_gpu` keeps tasks from being counted by GPUs.
    """
    if TRAINING["nodes"] == 1:
        return {}
    gpus = node_gpus()
    return {
        "mpi": "srun",
        "nodes": TRAINING["nodes"],
        "tasks": TRAINING["nodes"],
        "tasks_per_gpu": 0,
        **({"slurm_extra": f"--gpus-per-node={gpus}"} if gpus else {}),
    }


def training_threads():
    """Threads of a node's processes of a training, and of those that read data."""
    processes = TRAINING["processes"]
    if CONFIG["device"] == "cpu":
        return processes * TRAINING["threads"]
    return processes * device_threads(CONFIG["device"], TRAINING["threads"])


def evaluated(run, repeat):
    """Steps of a training whose checkpoints are evaluated, as far as the earlier scores tell.

    Raises what makes Snakemake come back when there are more scores.
    """
    steps = training_settings.checkpoints(TRAINING)
    if TRAINING["evaluation"]["checkpoints"] == "all":
        return steps
    start = steps[0]
    if int(repeat) > 0:
        start = reporting.first_passing(passed_targets(run, 0)) or steps[-1]
    return sorted(passed_targets(run, repeat, start))


def passed_targets(run, repeat, start=None):
    """Whether the checkpoints of a training that have to be evaluated pass, by their steps."""
    steps = training_settings.checkpoints(TRAINING)
    passed = {}
    while True:
        step = reporting.next_evaluation(steps, passed, start or steps[0])
        if step is None:
            return passed
        scores = checkpoints.score_checkpoint.get(
            run=run, repeat=repeat, step=f"{step:09d}"
        ).output[0]
        passed[step] = mllog.evaluation(read_json(Path(scores))).passes


def of_checkpoints(pattern):
    """A function that names a run's file for each checkpoint that is evaluated."""

    def files(wildcards):
        folder = f"results/{wildcards.run}/training/{wildcards.repeat}"
        steps = evaluated(wildcards.run, wildcards.repeat)
        return expand(f"{folder}/{pattern}", step=steps)

    return files


def of_evaluation(pattern):
    """A function that names a checkpoint's files for all shards, in index order."""

    def files(wildcards):
        folder = f"results/{wildcards.run}/training/{wildcards.repeat}"
        return expand(f"{folder}/{pattern}", step=wildcards.step, shard=SHARDS)

    return files


def training_modules(wildcards):
    """What torchrun loads by name."""
    return ("t2i.training.rank",)
