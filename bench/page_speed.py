"""How long the page of a large run takes to make, how large it is, and when a browser paints it.

Shards of drawn pictures are written first, which is not timed. The browser is Debian's chromium,
after `make browser`; without it, its line is left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/support")]


def main() -> None:
    """Write the shards, make the page, open it."""
    import fake_results as fake
    from browser import chromium, missing
    from t2i.generate.shard import read_manifest
    from t2i.report.data import assemble
    from t2i.report.gallery import write_pictures
    from t2i.report.page import render

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--variants", type=int, default=4)
    parser.add_argument("--side", type=int, default=1024, help="of the pictures, in pixels")
    parser.add_argument("--checks", type=int, default=400, help="of each variant")
    options = parser.parse_args()
    names = [f"variant-{n}" for n in range(options.variants)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = fake.write_shards(folder, names, options.samples, options.side)
        many = [fake.check(f"inputs.file-{n}", "pass", "ab" * 32) for n in range(options.checks)]
        begin = time.perf_counter()
        report = assemble(
            "large",
            names,
            [fake.metrics(each, options.samples) for each in names],
            [
                {**(made := fake.compliance(each)), "checks": [*made["checks"], *many]}
                for each in names
            ],
            fake.comparison(names, options.samples),
            fake.provenance(names, options.samples),
            [read_manifest(manifest) for pairs in shards.values() for _, manifest in pairs],
            fake.captions(options.samples),
            fake.IDS,
            scenarios=[fake.scenario(each, "SingleStream") for each in names],
            latencies={
                (each, "SingleStream"): np.random.default_rng(1).gamma(9, 0.1, options.samples)
                for each in names
            },
        )
        indices = {row["index"] for row in report["gallery"]["rows"]}
        budget = 7_500_000 // (len(indices) * len(names))
        pictures = {
            each: write_pictures(shards[each], indices, budget, folder / "images" / each)
            for each in names
        }
        page = folder / "report.html"
        page.write_text(render(report, pictures), encoding="utf-8")
        seconds = time.perf_counter() - begin
        print(
            f"{options.samples} samples, {len(names)} variants, {options.side} px: page of "
            f"{page.stat().st_size / 1e6:.2f} MB made in {seconds:.1f} s"
        )
        if (reason := missing()) is not None:
            print(f"no browser: {reason}")
            return
        with chromium() as browser:
            opened = browser.new_page(viewport={"width": 1440, "height": 900})
            opened.goto(page.as_uri())
            opened.wait_for_function("performance.getEntriesByType('paint').length")
            first = opened.evaluate("performance.getEntriesByType('paint')[0].startTime")
            print(f"first paint after {first / 1000:.2f} s")


if __name__ == "__main__":
    main()
