"""How fast images are scored: ours from a shard, against the reference's way, one image at a time.

Both run in one process on the same images of noise and the same random weights of the real networks
(Inception v3, CLIP ViT-B/32). Ours is what the rule extract_features does: PNGs are decompressed,
verified and scored in batches. The reference's way gets pixels that are in memory already: for each
image pytorch-fid's network and open_clip's encoders of image and caption, in batches of one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
CLIP_MODEL = "ViT-B-32-quickgelu"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=1024, help="height and width in pixels")
    parser.add_argument("--peer-images", type=int, default=100, help="for the reference's way")
    parser.add_argument("--batch", type=int, default=64, help="ours")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="ours")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--json", type=Path, help="write what was measured")
    return parser.parse_args()


def main() -> None:
    """Make a shard and networks, score both ways, compare scores and times."""
    options = arguments()
    import t2i.job.torch_shim  # noqa: F401

    import numpy as np
    import open_clip
    import torch
    from PIL import Image
    from pytorch_fid import inception as peer_inception
    from safetensors.torch import load_file
    from torchvision.transforms.functional import to_tensor

    from t2i.base.numerics import exact_float32
    from t2i.generate.shard import (
        add_samples,
        archive_facts,
        read_manifest,
        read_shard,
        write_manifest,
    )
    from t2i.job.device import describe_device
    from t2i.metrics.inception import load_inception
    from t2i.metrics.scoring import readers, score_shard
    from t2i.micro.inception import write_micro_inception

    exact_float32()
    torch.set_num_threads(1)  # as in the rule; more would compete with the threads that read
    device = options.device

    def wait() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        tar, manifest = Path(folder, "images.tar"), Path(folder, "images.json")
        random = np.random.default_rng(0)
        coarse = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((options.side,) * 2), dtype=np.int16)
        grain = random.integers(-4, 5, (options.side, options.side, 3))

        def picture(index: int) -> np.ndarray:
            rolled = np.roll(smooth, (index * 37) % options.side, axis=index % 2)
            pixels: np.ndarray = np.clip(rolled + grain, 0, 255).astype(np.uint8)
            return pixels

        kept = [picture(index) for index in range(options.peer_images)]
        with tarfile.open(tar, "w") as archive:
            rows = ((index, index, picture(index), True) for index in range(options.images))
            samples = add_samples(archive, rows, options.threads)
        write_manifest(manifest, archive_facts(tar), samples, {})
        captions = [f"a picture with the number {n}" for n in range(options.images)]
        write_micro_inception(Path(folder))
        weights = Path(folder, "model.safetensors")
        network = load_inception(weights, device)
        model, _, transform = open_clip.create_model_and_transforms(CLIP_MODEL, pretrained=None)
        model = model.to(device).eval()
        model.tokenize = open_clip.tokenize
        tokenize = open_clip.tokenize
        peer_inception.load_state_dict_from_url = lambda *_, **__: {
            **load_file(weights),
            "fc.weight": torch.zeros(1008, 2048),
            "fc.bias": torch.zeros(1008),
        }
        peer = peer_inception.InceptionV3().to(device).eval()

        def ours(count: int) -> tuple[float, object]:
            begin = wait()
            wanted = read_manifest(manifest)["samples"][:count]
            indices = {sample.index for sample in wanted}
            images = read_shard(tar, manifest, indices, readers(options.threads))
            pixels = (image for _, image in images)
            features = score_shard(
                wanted, pixels, captions, network, model, options.batch, options.threads
            )
            return wait() - begin, features

        def theirs() -> tuple[float, list[float], list[np.ndarray]]:
            scores, features = [], []
            begin = wait()
            with torch.inference_mode():
                for index, pixels in enumerate(kept):
                    image = Image.fromarray(pixels)
                    picture = model.encode_image(transform(image)[None].to(device))
                    text = model.encode_text(tokenize([captions[index]]).to(device))
                    picture = picture / picture.norm(dim=-1, keepdim=True)
                    text = text / text.norm(dim=-1, keepdim=True)
                    scores.append(100 * float(picture[0] @ text[0]))
                    pooled = peer(to_tensor(image)[None].to(device))[0]
                    features.append(pooled.flatten().cpu().numpy())
            return wait() - begin, scores, features

        ours(options.batch)
        theirs()
        first, scores, features = theirs()
        seconds, scored = ours(options.images)
        second, _, _ = theirs()
    number = len(kept)
    clip_error = float(np.abs(scored.clip[:number] - scores).max())
    scale = float(np.abs(features).max())
    fid_error = float(np.abs(scored.inception[:number] - np.stack(features)).max()) / scale
    rate, peer_rate = options.images / seconds, 2 * number / (first + second)
    facts = {
        "device": describe_device(device),
        "images": options.images,
        "side": options.side,
        "threads": options.threads,
        "images_per_second": rate,
        "reference_images_per_second": peer_rate,
        "times": rate / peer_rate,
        "clip_difference": clip_error,
        "feature_difference": fid_error,
    }
    print(json.dumps(facts, indent=2))
    if clip_error > 1e-2 or fid_error > 1e-4:
        sys.exit("the scores of both ways differ; the times mean nothing")
    if options.json is not None:
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
