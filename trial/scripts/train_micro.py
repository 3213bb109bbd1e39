"""Train the micro SDXL and its CLIP scorer from nothing, and judge what they paint."""

import t2i.compat  # noqa: F401

import argparse
import os
import subprocess
import sys
import tarfile
import time
from dataclasses import asdict, fields, replace
from pathlib import Path

import diffusers
import torch
import transformers

from t2i.train_clip import ClipSettings, train_clip
from t2i.train_common import log
from t2i.train_evaluate import VARIANTS, Looker, evaluate, file_sizes, write_card
from t2i.train_unet import UnetSettings, train_unet
from t2i.train_vae import VaeSettings, train_vae

SHIPPED = Path(__file__).parents[1] / "config" / "models" / "sdxl-base-1.0"
PARTS = {"vae": VaeSettings(), "clip": ClipSettings(), "unet": UnetSettings()}
TINY = {
    "vae": VaeSettings(steps=2, batch=4, scenes=8),
    "clip": ClipSettings(steps=2, batch=8, scenes=8),
    "unet": UnetSettings(steps=2, batch=8, variants=1, judge_every=0.0, scenes=8),
}


def arguments():
    """The command line: every setting of a part is an option --PART-NAME."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--part", choices=[*PARTS, "evaluate", "all"], default="all")
    parser.add_argument("--plain", action="store_true", help="compile nothing")
    parser.add_argument("--plain-parts", default="", help="parts not to compile, by commas")
    parser.add_argument("--tiny", action="store_true", help="two steps of each part")
    parser.add_argument("--count", type=int, default=512, help="captions of the evaluation")
    parser.add_argument(
        "--ways", default=",".join(VARIANTS), help="ways to sample in the evaluation"
    )
    parser.add_argument("--pack", type=Path, help="folder for the results as few files")
    for part, settings in PARTS.items():
        for field in fields(settings):
            value = getattr(settings, field.name)
            kind = _channels if isinstance(value, tuple) else type(value)
            parser.add_argument(f"--{part}-{field.name.replace('_', '-')}", type=kind)
    return parser.parse_args()


def _channels(text):
    return tuple(int(number) for number in text.split(","))


def settings_of(options):
    """The settings of all parts with what the command line changed."""
    chosen = {}
    for part, settings in (TINY if options.tiny else PARTS).items():
        values = {f.name: getattr(options, f"{part}_{f.name}") for f in fields(settings)}
        chosen[part] = replace(settings, **{k: v for k, v in values.items() if v is not None})
    return chosen


def run_part(part, options, settings):
    """Run one part in this process."""
    out, device, fast = options.out, options.device, not options.plain
    fast = fast and part not in options.plain_parts.split(",")
    if part == "vae":
        train_vae(out, device, settings["vae"], fast)
    elif part == "clip":
        train_clip(out, device, settings["clip"])
    elif part == "unet":
        look = Looker(out, device, min(256, options.count))
        train_unet(out, SHIPPED, device, settings["unet"], fast, look)


def train_all(options, settings):
    """Run the parts side by side, each in its process: one compiles while another trains."""
    began = time.monotonic()
    running = {
        part: subprocess.Popen([sys.executable, *sys.argv, "--part", part]) for part in PARTS
    }
    seconds = {}
    try:
        while running:
            for part, process in list(running.items()):
                if process.poll() is not None:
                    if process.returncode:
                        raise SystemExit(f"{part} failed with {process.returncode}")
                    seconds[part] = round(time.monotonic() - began, 1)
                    log("all", f"{part} took {seconds[part]} s from the beginning")
                    del running[part]
            time.sleep(0.2)
    finally:
        for process in running.values():
            process.terminate()
    pack(options)
    evaluate(options.out, options.device, options.count, options.ways.split(","))
    seconds["evaluate"] = round(time.monotonic() - began, 1)
    facts = {part: asdict(values) for part, values in settings.items()}
    write_card(options.out, {**facts, "seconds_from_the_beginning": seconds}, options.device)
    pack(options)


def pack(options):
    """Put the model and the scorer as tar files, and the small results, into one folder."""
    if options.pack is None:
        return
    options.pack.mkdir(parents=True, exist_ok=True)
    for name in ("model", "clip"):
        with tarfile.open(options.pack / f"{name}.tar", "w") as archive:
            archive.add(options.out / name, arcname=name)
    for name in ("training.png", "samples.png", "ways.png", "card.json", "unet.json"):
        if (options.out / name).exists():
            (options.pack / name).write_bytes((options.out / name).read_bytes())
    log("all", f"packed {sum(file_sizes(options.out).values()) / 1e6:.2f} MB")


if __name__ == "__main__":
    options = arguments()
    settings = settings_of(options)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    options.out.mkdir(parents=True, exist_ok=True)
    # The parts share the CPU, and torch's threads wait for each other spinning.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if options.part == "all":
        train_all(options, settings)
    elif options.part == "evaluate":
        evaluate(options.out, options.device, options.count, options.ways.split(","))
    else:
        run_part(options.part, options, settings)
