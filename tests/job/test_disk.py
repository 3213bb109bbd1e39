"""Disk space: what a run will write, the refusal before it begins, and what `free` removes."""

import io
import os
import re
import subprocess
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i.base.yaml import read_yaml
from t2i.config import forecast
from t2i.config.forecast import Job, engine_bytes, image_bytes
from t2i.fetch.files import part_path
from t2i.fetch.needed import NETWORK_SOURCES
from t2i.fetch.table import read_sources
from t2i.generate.plan import plan
from t2i.generate.shard import add_sample, archive_facts, write_manifest
from t2i.job import cleanup, disk
from t2i.job.disk import DiskFullError, format_bytes, free_bytes, freed_bytes, require_space
from t2i.metrics.features import Features, write_features
from t2i.micro.pictures import SIDE
from workflow_run import JOB, PROJECT, SHARDS, VARIANTS, WILDCARDS, of_rule, rules

SOURCES = read_sources(read_yaml(PROJECT / "config/sources.yaml"))
UNSIZED = "coco2014/val2014.npz"
SOURCES[UNSIZED] = replace(SOURCES[UNSIZED], size=None)
SDXL = "sdxl-base-1.0"
OFFICIAL = {
    "model": SDXL,
    "variants": {name: {"dtype": name} for name in ("fp16", "bf16", "fp32")},
}
EMBEDDED = {
    "model": "micro-sdxl",
    "scores": {"reference": {"images": "ten of them"}},
    "variants": {name: {"dtype": name} for name in VARIANTS},
}
DEAD = "999999999"  # above the largest process id of Linux
DIGITS = "0123456789ab"
# Words before a command that give it a file system of its own of 4 MB below results/.
SMALL_DISK = (
    *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c"),
    'mount -t tmpfs -o size=4m none results && exec "$@"',
    "sh",
)


@given(st.integers(1000, 10**15))
def test_sizes_in_words_say_the_number_to_a_tenth(count):
    number, unit = format_bytes(count).split()
    scale = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert abs(float(number) * scale - count) <= 0.0501 * scale
    assert float(number) < 1000 or unit == "TB"


def test_free_space_is_what_df_offers_an_ordinary_user(tmp_path):
    missing = tmp_path / "no/such/folder"
    said = subprocess.run(
        ["df", "--block-size=1", "--output=avail", tmp_path], capture_output=True, text=True
    )
    assert abs(free_bytes(missing) - int(said.stdout.split()[1])) < 1e9  # others write meanwhile


def test_what_does_not_fit_is_refused_with_both_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 2_000_000)
    require_space(tmp_path, 2_000_000, "weights.safetensors")
    with pytest.raises(DiskFullError) as caught:
        require_space(tmp_path, 2_100_000, "weights.safetensors")
    for words in (
        "weights.safetensors needs 2.1 MB",
        f"{tmp_path} has only 2.0 MB",
        "snakemake free",
    ):
        assert words in str(caught.value)


def test_freed_bytes_count_no_links(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/own").write_bytes(bytes(100))
    (tmp_path / "model").write_bytes(bytes(1000))
    os.link(tmp_path / "model", tmp_path / "folder/hard")
    assert disk.held_bytes(tmp_path / "folder") == 1100
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/large").write_bytes(bytes(10_000))
    (tmp_path / "folder/soft").symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "folder/soft").lstat().st_size
    assert freed_bytes(tmp_path / "folder") == 100 + before
    assert freed_bytes(tmp_path / "missing") == 0


@pytest.mark.parametrize("side", [8, 64, 200, 1024])
def test_no_image_takes_more_than_forecast_and_noise_takes_almost_that(side, tmp_path):
    """A real shard of noise, without the manifest and the two blocks that end a tar."""
    noise = np.random.default_rng(side).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as handle:
        samples = [add_sample(handle, n, 999_999, image, True) for n, image in enumerate(noise)]
        size = handle.offset
    assert size <= 2 * image_bytes(side)
    assert size >= 0.99 * 2 * image_bytes(side) or side < 1024
    (tmp_path / "tar").write_bytes(archive.getvalue())
    sizes = []
    for count in (1, 2):
        write_manifest(tmp_path / "json", archive_facts(tmp_path / "tar"), samples[:count], {})
        sizes.append((tmp_path / "json").stat().st_size)
    assert 0.5 * forecast.MANIFEST_ENTRY < sizes[1] - sizes[0] <= forecast.MANIFEST_ENTRY


def test_features_take_what_is_forecast(tmp_path):
    sizes = []
    for count in (100, 200):
        rows = np.zeros(count)
        features = Features(
            index=rows.astype(np.int64),
            inception=np.zeros((count, 2048), np.float32),
            clip=rows.astype(np.float32),
            clip_shifted=rows.astype(np.float32),
            sha256=np.full(count, "f" * 64),
            low=rows.astype(np.uint8),
            high=rows.astype(np.uint8),
            size=np.zeros((count, 2), np.int64),
        )
        write_features(tmp_path / "features.npz", features)
        sizes.append((tmp_path / "features.npz").stat().st_size)
    assert 0.95 * forecast.FEATURE_ROW < (sizes[1] - sizes[0]) / 100 <= forecast.FEATURE_ROW


def test_downloads_count_what_is_missing_of_them():
    unet = f"{SDXL}/unet/diffusion_pytorch_model.fp16.safetensors"
    network = NETWORK_SOURCES["inception-2015-12-05"]
    scorer = "micro-clip/model.safetensors"
    jobs = [
        Job("fetch_source", {"source": scorer}),
        Job("fetch_source", {"source": unet}, present=5_000_000_000),
        Job("fetch_source", {"source": network}),
        Job("fetch_source", {"source": UNSIZED}),
    ]
    totals = forecast.forecast(jobs, OFFICIAL, SOURCES, 1024, True)
    assert totals["weights"] == SOURCES[unet].size - 5_000_000_000
    assert totals["scoring networks"] == SOURCES[network].size + SOURCES[scorer].size
    assert totals["data set"] == 0


def test_a_part_of_a_download_is_gone_on_with(tmp_path):
    source = SOURCES[f"{SDXL}/vae/diffusion_pytorch_model.safetensors"]
    output = tmp_path / "vae.safetensors"
    part_path(output, source).write_bytes(bytes(1234))
    job = forecast.planned_job("fetch_source", {"source": source.name}, [str(output)], SOURCES)
    assert job.present == 1234


def test_the_official_images_are_the_bulk():
    jobs = [
        Job(rule, {"variant": "fp16", "shard": shard})
        for shard in plan(5000, 250)
        for rule in ("generate_shard", "extract_features")
    ]
    totals = forecast.forecast(jobs, OFFICIAL, SOURCES, 1024, True)
    raw = 5000 * 3 * 1024**2
    assert raw < totals["images"] < 1.01 * raw
    assert totals["features"] == 5000 * forecast.FEATURE_ROW
    again = [Job(job.rule, job.wildcards, present=10**12) for job in jobs]
    assert forecast.forecast(again, OFFICIAL, SOURCES, 1024, True)["images"] == 0


def line_of(tmp_path, monkeypatch, jobs, free) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(forecast, "free_bytes", lambda folder: free)
    return forecast.checked_forecast(jobs, OFFICIAL, SOURCES)


def test_the_line_names_kinds_free_space_and_what_is_not_counted(tmp_path, monkeypatch):
    jobs = [
        Job("fetch_source", {"source": f"{SDXL}/unet/diffusion_pytorch_model.fp16.safetensors"}),
        Job("fetch_source", {"source": UNSIZED}),
        Job("generate_shard", {"variant": "fp16", "shard": "00000-00250"}),
    ]
    images = 250 * (image_bytes(1024) + forecast.MANIFEST_ENTRY)
    needed = SOURCES[jobs[0].wildcards["source"]].size + images + 3 * forecast.EVERY_JOB
    words, taken = format_bytes(needed), format_bytes(images)
    assert line_of(tmp_path, monkeypatch, jobs, needed) == (
        f"disk: at most {words} more (weights 5.1 GB, images {taken}, reports and logs 300.0 kB), "
        f"{words} free; not counted, of unknown size: {UNSIZED}"
    )
    with pytest.raises(DiskFullError, match="so nothing was started. Make room .*--no-hooks"):
        line_of(tmp_path, monkeypatch, jobs, needed - 1)


@pytest.fixture
def litter(tmp_path, monkeypatch) -> Path:
    """A working folder with all kinds of leftovers, each of 1000 bytes and two hours old."""
    monkeypatch.chdir(tmp_path)
    names = [
        f"resources/model/.complete.bin.{DIGITS}.part",
        f"resources/model/.begun.bin.{DIGITS}.part",
        "resources/model/.begun.bin.123456789012.part",
        "resources/model/complete.bin",
        f"resources/.statistics.npz.{DEAD}.part",
        f"results/r/v/.engine.{DEAD}.part/weights/unet/model.safetensors",
        f"results/r/v/.engine.{DEAD}.old/engine.json",
        f"results/r/v/shards/.00000-00003.tar.{DEAD}.part",
        f"results/r/v/shards/.00003-00006.tar.{os.getpid()}.part",
        "results/r/v/shards/00000-00003.tar.damaged",
        "results/r/v/shards/00000-00003.json",
        f"results/r/v/shards/.00000-00003.tar.{DIGITS}.journal",
        f"results/r/v/shards/.00000-00003.tar.{DIGITS}.unfinished",
        "results/r/v/shards/00006-00009.tar",
        f"results/r/v/shards/.00006-00009.tar.{DIGITS}.journal",
        f"results/r/v/shards/.00006-00009.tar.{DIGITS}.unfinished",
        "results/r/v/notes.damaged",
        "results/r/v/metrics.json.aside",
        "results/r/.records/v/metrics.json.aside.json",
        "results/r/v/notes.aside",
        f"results/other/.metrics.json.{DEAD}.part",
        f"outside/.metrics.json.{DEAD}.part",
    ]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    (tmp_path / "results/r/linked").symlink_to(tmp_path / "outside")
    (tmp_path / f"results/r/.link.{DEAD}.part").symlink_to(tmp_path / "outside")
    old = time.time() - 2 * cleanup.QUIET
    for path in tmp_path.rglob("*"):
        os.utime(path, (old, old), follow_symlinks=False)
    return tmp_path


def remaining(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_exactly_what_nothing_needs_is_removed(litter):
    before = remaining(litter)
    found = list(cleanup.leftovers([Path("resources"), Path("results/r")]))
    assert sum(cleanup.remove(path) for path, _ in found) == 9000
    assert before - remaining(litter) == {
        f"resources/model/.complete.bin.{DIGITS}.part",
        f"resources/.statistics.npz.{DEAD}.part",
        f"results/r/v/.engine.{DEAD}.part/weights/unet/model.safetensors",
        f"results/r/v/.engine.{DEAD}.old/engine.json",
        f"results/r/v/shards/.00000-00003.tar.{DEAD}.part",
        "results/r/v/shards/00000-00003.tar.damaged",
        "results/r/v/metrics.json.aside",
        f"results/r/v/shards/.00006-00009.tar.{DIGITS}.journal",
        f"results/r/v/shards/.00006-00009.tar.{DIGITS}.unfinished",
    }


def test_files_that_change_may_be_written_on_another_host(litter):
    engine = litter / f"results/r/v/.engine.{DEAD}.part"
    os.utime(engine / "weights/unet/model.safetensors")
    assert engine.relative_to(litter) not in {
        path for path, _ in cleanup.leftovers([Path("results/r")])
    }


def test_nothing_is_found_behind_a_linked_folder(litter):
    (litter / "results").rename(litter / "moved")
    (litter / "results").symlink_to("moved")
    assert list(cleanup.leftovers([Path("results/r")])) == []


def test_nothing_is_removed_while_another_run_holds_the_lock(litter):
    cleanup.check_alone()
    lock = litter / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with pytest.raises(cleanup.BusyError):
        cleanup.check_alone()


@pytest.mark.slow
def test_nothing_takes_more_than_forecast(finished, monkeypatch):
    """All jobs of the finished run, by kind, against what they left."""
    said = finished.snakemake("--dry-run", "--forceall")
    jobs = []
    for match in JOB.finditer(said):
        found = WILDCARDS.search(match["facts"])
        pairs = [pair.split("=") for pair in found[1].split(", ")] if found else []
        jobs.append(Job(match["rule"], dict(pairs)))
    monkeypatch.setattr(forecast, "REFERENCE_IMAGES", 10)
    totals = forecast.forecast(jobs, EMBEDDED, SOURCES, SIDE, linked=True)

    def left(*patterns: str) -> int:
        paths = {path for pattern in patterns for path in finished.folder.glob(pattern)}
        return sum(path.stat().st_size for path in paths if path.is_file())

    taken = {
        "weights": left("resources/micro-sdxl/**/*"),
        "scoring networks": left("resources/micro-inception/*", "resources/micro-clip/*"),
        "data set": left("resources/pictures/*", "resources/reference/**/*"),
        "engines": sum(  # nothing of them is linked to the model's files, which are fp16
            disk.held_bytes(finished.folder / f"results/tiny/{name}/engine") for name in VARIANTS
        ),
        "images": left("results/tiny/*/shards/*", "results/tiny/*/compliance_images/*"),
        "features": left("results/tiny/*/features/*"),
        "reports and logs": left("results/tiny/*.*", "logs/**/*", "benchmarks/**/*"),
    }
    logs = forecast.EVERY_JOB * len(jobs)  # of small files of every kind
    assert {what: size for what, size in taken.items() if size > totals[what] + logs} == {}
    assert sum(taken.values()) > 0.8 * (sum(totals.values()) - logs - 10_000_000)


def small_disks() -> bool:
    """Whether the system lets an ordinary user have a file system of one's own."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not small_disks(), reason="no file system of one's own is allowed here")
def test_a_run_is_refused_on_a_small_disk_before_its_first_job(workplace):
    target = "results/tiny/bf16/engine/engine.json"
    assert "disk:" not in workplace.snakemake(target, "--dry-run", before=SMALL_DISK)
    said = workplace.snakemake(target, before=SMALL_DISK, succeeds=False)
    needed = engine_bytes("micro-sdxl", "bf16", SOURCES, False) + forecast.EVERY_JOB
    words = re.escape(f"at most {format_bytes(needed)} more below results (")
    assert re.search(rf"{words}.*\), 4\.2 MB free\nThis may not", said)
    assert "Traceback" not in said and "session.smk" not in said
    assert not (workplace.folder / ".snakemake/locks").exists()


def without_links(folder: Path) -> int:
    """Give each file of a folder, linked to another copy of the run, a copy of its own; bytes."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    for path in paths:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    return sum(path.stat().st_size for path in paths)


@pytest.mark.slow
def test_free_keeps_a_finished_run_finished_and_a_grown_one_correct(workplace):
    folder = workplace.folder / "results/tiny"
    size = format_bytes(without_links(folder / "bf16/engine/weights"))
    for number, path in enumerate((folder / "fp32/engine/weights").rglob("*.safetensors")):
        os.link(path, workplace.folder / f"linked-{number}")
    said = workplace.snakemake("free")
    assert (
        f"removed results/tiny/bf16/engine/weights (weights of a finished variant): {size}" in said
    )
    assert not (folder / "bf16/engine/weights").exists()
    assert (folder / "fp32/engine/weights").exists()  # links, which cost nothing
    assert "Nothing to be done" in workplace.snakemake()
    assert "free: 0 bytes given back" in workplace.snakemake("free")

    more = {"samples": 9}
    refused = workplace.snakemake(overlay=more, succeeds=False)
    assert "snakemake --cores all results/tiny/bf16/engine/weights" in refused
    built = workplace.snakemake("results/tiny/bf16/engine/weights", overlay=more)
    assert len(re.findall(r"^disk: .* MB more \(engines .*\), .* free$", built, re.M)) == 1
    assert built.count("disk: ") == 1  # and its job does not say it again
    assert workplace.plan() == set()
    jobs = workplace.plan(overlay=more)
    assert of_rule(jobs, "generate_shard") == {f"{name} 00006-00009" for name in VARIANTS}
    assert "build_engine" not in rules(jobs)


@pytest.mark.slow
def test_free_keeps_the_weights_of_an_unfinished_variant(workplace):
    without_links(workplace.folder / "results/tiny/bf16/engine/weights")
    (workplace.folder / f"results/tiny/bf16/shards/{SHARDS[1]}.tar").unlink()
    assert "free: 0 bytes given back" in workplace.snakemake("free")
    assert of_rule(workplace.plan(), "generate_shard") == {f"bf16 {SHARDS[1]}"}
