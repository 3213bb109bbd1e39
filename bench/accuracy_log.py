"""Time and memory of reading an accuracy log, beside the reference's reader for little memory.

ours    t2i.loadgen.accuracy_log: records to pixels, with the file's and every image's sha256
theirs  accuracy_coco.py --low_memory: ijson's items, bytes.fromhex, numpy; no digest
digest  t2i.base.files.sha256_file: the file is only hashed

Each measurement is its own process. The log has 1024 x 1024 images of random bytes as LoadGen
6.0.17 writes them; it lies in a temporary folder, which needs room for it. ijson must be
installed, or its folder be named in PYTHONPATH. With a checkout of mlcommons/inference in
T2I_INFERENCE_CHECKOUT its own function runs, with scoring and the networks left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[1]
SIDE = 1024
IMAGE_BYTES = SIDE * SIDE * 3
AIM_MEMORY = 1000  # MB of our process, at most
AIM_SPEED = 3.0  # their time / our time, at least


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=5.0, help="size of the log")
    parser.add_argument("--folder", type=Path, help="where to put it (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)  # a measurement's process
    return parser.parse_args()


def write_log(path: Path, count: int) -> None:
    """A log of so many images, their indices shuffled."""
    generator = random.Random(0)
    order = generator.sample(range(count), count)
    with path.open("wb") as file:
        file.write(b"[")
        for number, index in enumerate(order):
            head = f'\n{{ "seq_id" : {number}, "qsl_idx" : {index}, "data" : "'
            file.write(b"," * (number > 0) + head.encode())
            file.write(generator.randbytes(IMAGE_BYTES).hex().upper().encode() + b'" }')
        file.write(b"\n]\n")


def read_ours(path: Path) -> int:
    """Every image as pixels, by this project."""
    sys.path.insert(0, str(ROOT / "scripts"))
    import numpy as np

    from t2i.loadgen.accuracy_log import AccuracyLog

    images = 0
    for entry in AccuracyLog(path, IMAGE_BYTES).verified():
        np.frombuffer(entry.data, np.uint8).reshape(SIDE, SIDE, 3)
        images += 1
    return images


def read_theirs(path: Path) -> int:
    """Every image as pixels, in the reference's way."""
    import ijson
    import numpy as np

    images = 0
    with path.open() as file:
        for record in ijson.items(file, "item"):
            np.frombuffer(bytes.fromhex(record["data"]), np.uint8).reshape(SIDE, SIDE, 3)
            images += 1
    return images


def read_official(path: Path) -> int:
    """Every image as a picture, by the reference's own function with nothing to score it."""
    images = 0

    class Nothing:
        BLOCK_INDEX_BY_DIM: ClassVar[dict[int, int]] = {2048: 3}

        def __init__(self, *_: Any, **__: Any) -> None: ...

        def to(self, _: str) -> None: ...

        def get_clip_score(self, *_: Any) -> Any:
            nonlocal images
            images += 1
            return SimpleNamespace(item=lambda: 0.0)

    class Captions:
        iloc: ClassVar[Any] = defaultdict(lambda: {"caption": ""})

    def no_activations(batch: list[Any], *_: Any) -> Any:
        import numpy as np

        return np.zeros((len(batch), 2048))

    names = ("compute_fid", "compute_statistics_of_path", "calculate_frechet_distance")
    for name, values in {
        "torch": {},
        "clip.clip_encoder": {"CLIPEncoder": Nothing},
        "fid.inception": {"InceptionV3": Nothing},
        "fid.fid_score": {
            "get_activations": no_activations,
            **dict.fromkeys(names, lambda *_: (0, 0)),
        },
    }.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(values)
    os.environ["TQDM_DISABLE"] = "1"
    sys.path.insert(0, str(Path(os.environ["T2I_INFERENCE_CHECKOUT"]) / "text_to_image/tools"))
    import accuracy_coco  # type: ignore[import-not-found]

    with contextlib.redirect_stdout(sys.stderr):
        accuracy_coco.compute_accuracy_low_memory(
            str(path), os.devnull, "cpu", False, [], "", Captions, ""
        )
    return images


def read_digest(path: Path) -> int:
    """No image: the file's sha256 alone."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from t2i.base.files import sha256_file

    sha256_file(path)
    return 0


READERS = {
    "ours": read_ours,
    "theirs": read_official if "T2I_INFERENCE_CHECKOUT" in os.environ else read_theirs,
    "digest": read_digest,
}


def measure(who: str, path: Path) -> dict[str, Any]:
    """Seconds of a reader's process, its largest memory in MB, and the images it gave."""
    command = [sys.executable, __file__, "--read", who, str(path)]
    began = time.perf_counter()
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return {**json.loads(printed), "seconds": time.perf_counter() - began}


def main() -> None:
    """Measure all, print a table, write JSON."""
    options = arguments()
    if options.read:
        images = READERS[options.read[0]](Path(options.read[1]))
        status = Path("/proc/self/status").read_text()
        memory = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
        print(json.dumps({"images": images, "memory": memory}))
        return
    count = round(options.gigabytes * 1e9 / (2 * IMAGE_BYTES))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        path = Path(name) / "mlperf_log_accuracy.json"
        write_log(path, count)
        size = path.stat().st_size
        found = {who: measure(who, path) for who in READERS}
    print("         seconds   MB/s  peak MB  images")
    for who, result in found.items():
        print(
            f"{who:7} {result['seconds']:8.2f} {size / result['seconds'] / 1e6:6.0f} "
            f"{result['memory']:8.0f} {result['images']:7}"
        )
    ours, theirs = found["ours"], found["theirs"]
    assert ours["images"] == theirs["images"] == count
    ratio = theirs["seconds"] / ours["seconds"]
    reached = ratio >= AIM_SPEED and ours["memory"] <= AIM_MEMORY
    print(
        f"theirs / ours {ratio:.1f}, aim at least {AIM_SPEED:g}; our memory {ours['memory']:.0f} "
        f"MB, aim at most {AIM_MEMORY}: {'reached' if reached else 'missed'}"
    )
    if options.json:
        document = {"bytes": size, "images": count, "ratio": ratio, "reached": reached, **found}
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
