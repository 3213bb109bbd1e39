"""What differs between rounds of MLPerf Inference for text-to-image, and what does not.

Sources: loadgen/mlperf.conf of each round, and constants.py of the submission checker
(mlcommons/inference at b66003e1).
"""

from __future__ import annotations

from dataclasses import dataclass

BENCHMARK = "stable-diffusion-xl"  # the name by which LoadGen and the checker know it
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
AUDITS = ("TEST01", "TEST04")
MODES = ("performance", "accuracy", *AUDITS, "FindPeakPerformance")
OFFICIAL_SECONDS = 600.0
OFFICIAL_SAMPLES = 5000
SERVER_LATENCY_SECONDS = 20.0
SYSTEM_TYPES = ("edge", "datacenter", "datacenter,edge")
# On an edge system, a scenario may be inferred from the logs of another one.
INFERRED = {"Offline": "SingleStream"}


@dataclass(frozen=True)
class Round:
    """One round. `image_ids` are the samples whose images a submission shows."""

    name: str
    qsl_rng_seed: int
    sample_index_rng_seed: int
    schedule_rng_seed: int
    image_ids: tuple[int, ...]

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
            (4475, 3627, 1046, 4937, 3867, 1671, 3789, 1206, 4111, 3093),
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
                f"{BENCHMARK} is no datacenter benchmark of round {round_name}: the submission "
                "checker has no entry for it and stops with an error; set system_type: edge, "
                "round: v5.1, or division: open"
            )
        return ("Server", "Offline")
    return ("SingleStream", "Server", "Offline")


def image_ids(round_name: str, listed: list[int]) -> list[int]:
    """Samples whose images a submission of the round shows.

    `listed` is the data set's own list. The benchmark's is that of its latest round, and older ones
    had others.
    """
    official = set(listed) == set(ROUNDS["v6.1"].image_ids)
    return list(ROUNDS[round_name].image_ids) if official else listed
