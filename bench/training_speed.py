"""How fast Stable Diffusion v2 trains: ours, beside plain diffusers code, in one process.

The real network with random weights, random moments and random hidden states that lie on the GPU:
steps alone, as MLPerf's submitters count them with captions encoded ahead. Both compute in bf16
with float32 weights and AdamW. Under torchrun, with one process for each GPU, ours alone runs in
parallel:

plain   diffusers' UNet as it is built, autocast, torch's AdamW, losses read every step
ours    t2i.training.trainer.Training: compiled, channels last, fused AdamW, nothing waits
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64], help="of one GPU")
    parser.add_argument("--steps", type=int, default=30, help="timed")
    parser.add_argument("--warm-up", type=int, default=5, help="steps before")
    parser.add_argument("--compile", default="default", help="mode of torch.compile, or none")
    parser.add_argument("--parallel", default="ddp", choices=["ddp", "fsdp"])
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp16", "fp32"])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="a small network, to try the script")
    parser.add_argument("--only", choices=["plain", "ours"], help="one of both")
    parser.add_argument("--json", type=Path, help="write what was measured")
    return parser.parse_args()


def main() -> None:
    """Time both at each batch size and print a table."""
    options = arguments()
    import t2i.job.torch_shim  # noqa: F401

    import torch
    import torch.distributed as dist
    from torch.utils.flop_counter import FlopCounterMode

    from t2i.base.numerics import set_up_torch
    from t2i.job.device import describe_device
    from t2i.training.rank import prepared_network
    from t2i.training.settings import MICRO_UNET, SD2_UNET
    from t2i.training.trainer import Place, Settings, Training
    from t2i.training.unet import sd2_unet

    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    device = options.device
    set_up_torch(2)
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        torch.cuda.set_device(device)
        torch.backends.cudnn.deterministic = False
        torch.backends.cudnn.benchmark = True
    if world > 1:
        dist.init_process_group("nccl" if device != "cpu" else "gloo")
    sizes = MICRO_UNET if options.small else SD2_UNET
    side, width = sizes["sample_size"], sizes["cross_attention_dim"]
    place = Place(rank, world, device)

    def now() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    def data(batch: int) -> tuple[Any, Any]:
        moments = torch.randn(batch, 8, side, side, device=device)
        return moments, torch.randn(batch, 77, width, device=device)

    def ours(batch: int) -> float:
        steps = options.warm_up + options.steps
        settings = Settings(
            steps, batch * world, 1e-7, 1000, 1, options.precision, steps + 1, 0.18215, "random"
        )
        mode = None if options.compile == "none" else options.compile
        network, plain = prepared_network(
            {"sizes": sizes, "compile": mode, "parallel": options.parallel}, settings, place
        )
        with tempfile.TemporaryDirectory() as folder:
            training = Training(network, plain, settings, place, Path(folder))
            training._save = lambda: None  # type: ignore[method-assign]  # no checkpoint
            marks: list[float] = []

            def batches() -> Any:
                given = data(batch)
                for step in itertools.count():
                    if step == options.warm_up:
                        marks.append(now())
                    yield given

            training.train(batches(), (side, side), rows=1000)
            return now() - marks[0]

    def plain(batch: int) -> float:
        from diffusers import DDPMScheduler

        network = sd2_unet(sizes, seed=1).to(device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-7)
        noise = DDPMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction")
        moments, hidden = data(batch)
        begin = 0.0
        for step in range(options.warm_up + options.steps):
            if step == options.warm_up:
                begin = now()
            mean, logvar = moments.chunk(2, dim=1)
            clean = 0.18215 * (mean + (0.5 * logvar).exp() * torch.randn_like(mean))
            added = torch.randn_like(clean)
            timesteps = torch.randint(0, 1000, (batch,), device=device)
            with torch.autocast(options.device, torch.bfloat16):
                noised = noise.add_noise(clean, added, timesteps)
                predicted = network(noised, timesteps, hidden).sample
            target = noise.get_velocity(clean, added, timesteps)
            loss = torch.nn.functional.mse_loss(predicted.float(), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
        return now() - begin

    def flops() -> float:
        with torch.device("meta"):
            network = sd2_unet(sizes)
            inputs = torch.randn(1, 4, side, side), torch.tensor([1]), torch.randn(1, 77, width)
        with FlopCounterMode(display=False) as counter:
            network(*inputs).sample.sum().backward()
        return float(counter.get_total_flops())

    per_image = flops()
    rows: list[dict[str, Any]] = []
    for batch in options.batches:
        for name, function in (("plain", plain), ("ours", ours)):
            if options.only not in (None, name) or (world > 1 and name == "plain"):
                continue
            if device != "cpu":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            torch._dynamo.reset()
            try:
                seconds = function(batch)
            except torch.OutOfMemoryError:
                rows.append({"what": name, "batch": batch, "out_of_memory": True})
                print(json.dumps(rows[-1]), flush=True)
                continue
            speed = batch * options.steps / seconds
            peak = torch.cuda.max_memory_allocated() / 1e9 if device != "cpu" else None
            rows.append(
                {
                    "what": name,
                    "batch": batch,
                    "images_per_second_of_a_gpu": speed,
                    "tflops": speed * per_image / 1e12,
                    "peak_gb": peak,
                }
            )
            if rank == 0:
                print(json.dumps(rows[-1]), flush=True)
    facts = {
        "device": describe_device(options.device),
        "gpus": world,
        "torch": torch.__version__,
        "precision": options.precision,
        "compile": options.compile,
        "flop_per_image": per_image,
        "rows": rows,
    }
    if rank == 0:
        print(json.dumps({key: value for key, value in facts.items() if key != "rows"}))
        if options.json is not None:
            options.json.write_text(json.dumps(facts, indent=2) + "\n")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
