"""Facts of a made-up training, from which logs are written."""

SETTINGS = {"batch": 512, "learning_rate": 6.4e-5, "warm_up": 1000}


def facts(seed: int = 11, checkpoints: int = 4) -> dict:
    """As a training's manifest has them: a minute for each checkpoint of 512,000 samples."""
    begin = {
        "init_start": "INTERVAL_START",
        "init_stop": "INTERVAL_END",
        "run_start": "INTERVAL_START",
    }
    events = [
        {"time_ms": 1000 * n, "event_type": kind, "key": key, "value": None, "metadata": {}}
        for n, (key, kind) in enumerate(begin.items())
    ]
    for block in range(checkpoints):
        for end, (key, kind) in enumerate(
            (("block_start", "INTERVAL_START"), ("block_stop", "INTERVAL_END"))
        ):
            events.append(
                {
                    "time_ms": 2000 + 60_000 * (block + end),
                    "event_type": kind,
                    "key": key,
                    "value": "training_step",
                    "metadata": {"samples_count": 512_000 * (block + end)},
                }
            )
    return {"settings": {**SETTINGS, "seed": seed}, "samples": 6_513_144, "events": events}
