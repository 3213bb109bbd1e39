"""The benchmark's constants: MLPerf's text-to-image as its rules and programs have it.

Sources: loadgen/mlperf.conf of each round, text_to_image/, compliance/, and constants.py of the
submission checker (mlcommons/inference at b66003e1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# --- names ---
BENCHMARK = "stable-diffusion-xl"  # the name by which LoadGen and the checker know it
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
AUDITS = ("TEST01", "TEST04")
MODES = ("performance", "accuracy", *AUDITS, "FindPeakPerformance")
SYSTEM_TYPES = ("edge", "datacenter", "datacenter,edge")
# On an edge system, a scenario may be inferred from the logs of another one.
INFERRED = {"Offline": "SingleStream"}
DETAIL = "mlperf_log_detail.txt"
SUMMARY = "mlperf_log_summary.txt"
ACCURACY_LOG = "mlperf_log_accuracy.json"

# --- limits ---
OFFICIAL_SAMPLES = 5000
OFFICIAL_SECONDS = 600.0
SERVER_LATENCY_SECONDS = 20.0
COMPLIANCE_IMAGES = 10
CLOSED_SIDE = 1024  # pixels

# --- model, sampler and scores ---
MLPERF_DATASET = "coco2014"
MLPERF_MODEL = "sdxl-base-1.0"
MLPERF_STEPS = 20
MLPERF_GUIDANCE = 8.0
NEGATIVE_PROMPT = "normal quality, low quality, worst quality, low res, blurry, nsfw, nude"
MLPERF_NETWORKS = {
    "inception": "inception-2015-12-05",
    "clip": "clip-vit-b-32",
}
MLPERF_STATISTICS = "coco2014/val2014.npz"
STATISTICS_BLOB = "806479d0693a33110526b6689aa26baddd995c7b"  # git's object id
# Of the benchmark's own captions.tsv and latents.npy, as config/sources.yaml has them.
CAPTIONS_SHA256 = "2eeb95637b30fe5af26dd644bafa7affe4e5472ad0bda32d0feb1bd261280d5e"
LATENTS_SHA256 = "78cac10a20ea287f88b5851382e21504a755338d3f8ba8ffd2bcf9e9bf2404f9"

# --- the closed division: keys of the configuration that it fixes, and the accuracy windows ---
CLOSED = {
    "dataset": MLPERF_DATASET,
    "model": MLPERF_MODEL,
    "samples": OFFICIAL_SAMPLES,
    "sampler.steps": MLPERF_STEPS,
    "sampler.guidance": MLPERF_GUIDANCE,
    "sampler.negative_prompt": NEGATIVE_PROMPT,
    "scores.inception": MLPERF_NETWORKS["inception"],
    "scores.clip": MLPERF_NETWORKS["clip"],
    "scores.reference.statistics": MLPERF_STATISTICS,
}
CLOSED_WINDOWS = {
    "samples": OFFICIAL_SAMPLES,
    "fid": [23.01085758, 23.95007626],
    "clip": [31.68631873, 31.81331801],
}

# Images/s of one GPU, Offline: the highest closed result of any Hopper GPU (GH200 144 GB, v5.0).
HOPPER_RECORD = 2.520

# --- LoadGen ---
PERCENTILES = {"SingleStream": 0.90, "MultiStream": 0.99, "Server": 0.99}
CONFIDENCE = 0.99  # of LoadGen's early stopping
LOADGEN_QUERIES = 100  # LoadGen's own min_query_count
TEST01_SEED = 720381539243781796
TEST01_SAMPLES = 128
TEST04_INDEX = 3

# --- rounds ---
# The samples of the benchmark's sample_ids.txt.
LISTED_IDS = (4475, 3627, 1046, 4937, 3867, 1671, 3789, 1206, 4111, 3093)


@dataclass(frozen=True)
class Round:
    """One round. `image_ids` are the samples whose images a submission shows."""

    name: str
    qsl_rng_seed: int
    sample_index_rng_seed: int
    schedule_rng_seed: int
    image_ids: tuple[int, ...]

    @property
    def seeds(self) -> dict[str, int]:
        """LoadGen's seeds by the names of its settings."""
        names = ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")
        return {name: getattr(self, name) for name in names}

    @property
    def nested(self) -> bool:
        """Whether audits and measurements lie inside the scenario's folder, as from v6.0 on."""
        return self.name >= "v6"

    @property
    def datacenter(self) -> bool:
        """Whether the checker knows the benchmark in the datacenter category."""
        return self.name < "v6"


ROUNDS = {
    found.name: found
    for found in (
        Round(
            "v5.0",
            6023615788873153749,
            15036839855038426416,
            9933818062894767841,
            (4459, 4015, 2705, 1682, 4048, 4683, 3757, 1578, 3319, 95),
        ),
        Round(
            "v5.1",
            1780908523862526354,
            14771362308971278857,
            18209322760996052031,
            (2747, 2235, 2165, 1515, 1538, 1367, 2419, 4629, 3657, 4532),
        ),
        Round(
            "v6.0",
            2465351861681999779,
            14276810075590677512,
            3936089224930324775,
            (1311, 2476, 3644, 2188, 4114, 52, 388, 1195, 3427, 2289),
        ),
        Round(
            "v6.1",
            2085463073848966840,
            2747215439041700203,
            16159082839903944936,
            LISTED_IDS,
        ),
    )
}


def required_scenarios(round_name: str, division: str, system_type: str) -> tuple[str, ...]:
    """Scenarios that a submission must have.

    Raises ValueError for what the checker cannot take: SDXL in the closed division's datacenter
    category from v6.0 on.
    """
    if "datacenter" not in system_type:
        return ("SingleStream", "Offline")
    if system_type == "datacenter":
        if not ROUNDS[round_name].datacenter and division == "closed":
            raise ValueError(
                f"{BENCHMARK} is not a datacenter benchmark of round {round_name}: the submission "
                "checker has no entry for it and stops with an error; set system_type: edge, "
                "round: v5.1, or division: open"
            )
        return ("Server", "Offline")
    return ("SingleStream", "Server", "Offline")


def image_ids(shown: Sequence[int], listed: Sequence[int]) -> list[int]:
    """Samples whose images a submission shows: those of its round, `Round.image_ids`.

    `listed` is the data set's own list. The benchmark's is that of its latest round, and older
    rounds had others; a data set of one's own has no rounds.
    """
    return list(shown if set(listed) == set(LISTED_IDS) else listed)
