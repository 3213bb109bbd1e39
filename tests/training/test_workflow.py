"""`snakemake train` from nothing, short, in a copy of the project."""

import hashlib
import json
import os
from collections import Counter

import pytest

from laion import install_stand_in, metadata_row, served_images, write_part
from t2i.base.yaml import read_yaml
from t2i.generate.shard import read_shard
from t2i.training.mllog import read_log
from t2i.training.settings import request
from t2i.training.tars import read_index, read_samples
from workflow_run import PROJECT, Workplace, copy_project

CONFIG = PROJECT / "config" / "training_micro.yaml"
SHORT = {
    "samples": 4,
    "shard_size": 4,
    "scores": {
        "inception": "micro-inception",
        "clip": "micro-clip",
        "reference": {"images": "training-reference"},
    },
    "training": {
        "steps": 3,
        "batch": 4,
        "interval_images": 16,
        "data": {"tars": 1, "images": 16},
        "evaluation": {"steps": 2, "batch_size": 2},
        "rows": 1,
    },
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Workplace:
    place = Workplace(copy_project(tmp_path_factory.mktemp("trained") / "project"), (CONFIG,))
    # Eight pictures of the miniature's model serve as reference: features of all 512 take minutes.
    pictures = sorted((PROJECT / "models/micro-sdxl/reference_images").glob("*.png"))
    (place.folder / "training-reference").mkdir()
    for path in pictures:
        (place.folder / "training-reference" / path.name).write_bytes(path.read_bytes())
    # Not cut off from the network as elsewhere: processes meet over loopback.
    place.snakemake("train", overlay=SHORT)
    return place


def results(place: Workplace):
    return place.folder / "results/training-micro/training/0"


def read(place: Workplace, name: str) -> dict:
    return json.loads((results(place) / name).read_text())


def test_every_rule_leaves_its_files(trained) -> None:
    data = trained.folder / "resources/training/pictures"
    assert len(read_index(data / "moments/00000.index.npz")) == 16
    for kind in ("images/00000.tar", "moments/00000.tar", "hidden/00000.npy"):
        assert (data / kind).is_file()
    facts = read(trained, "training.json")
    assert (facts["processes"], facts["samples"]) == (2, 16)
    assert sorted(facts["checkpoints"]) == ["2", "3"]
    for step in (2, 3):
        folder = results(trained) / "shards" / f"{step:09d}"
        found = [
            sample.index
            for sample, _ in read_shard(folder / "00000-00004.tar", folder / "00000-00004.json")
        ]
        assert found == [0, 1, 2, 3]
        assert read(trained, f"scores/{step:09d}.json")["samples_count"] == 8 * step


def test_the_log_is_complete_and_judged(trained) -> None:
    keys = [event["key"] for event in read_log(results(trained) / "result_0.txt")]
    assert keys[:5] == [
        f"submission_{part}" for part in ("benchmark", "division", "org", "platform", "status")
    ]
    assert keys.count("eval_accuracy") == 4
    checks = {check["id"]: check for check in read(trained, "verdict.json")["checks"]}
    assert checks["training.checker"]["value"] == "SUCCESS"
    assert {check["verdict"] for check in checks.values()} == {"pass", "not applicable"}


def test_the_page_says_what_was_trained(trained) -> None:
    page = (results(trained) / "report.html").read_text()
    assert "A miniature with the structure of Stable Diffusion v2" in page
    assert "micro-inception has random weights, not the published ones." in page
    assert page.count("<figure") == 3
    assert page.count("<img") == 2 * 4


def test_nothing_is_left_to_do_and_nothing_is_left_over(trained) -> None:
    assert trained.plan("train", overlay=SHORT) == set()
    assert not list(trained.folder.rglob("*.part"))


def test_a_lost_shard_is_made_again_alone(trained) -> None:
    (results(trained) / "shards/000000002/00000-00004.tar").unlink()
    planned = {job.split()[0] for job in trained.plan("train", overlay=SHORT)}
    assert "train_network" not in planned
    assert "sample_checkpoint" in planned
    before = read(trained, "scores/000000002.json")
    trained.snakemake("train", overlay=SHORT)
    assert read(trained, "scores/000000002.json") == before


def test_ten_trainings_are_planned_with_seeds_of_their_own(trained) -> None:
    known = {"cooling": "air", "host_memory_configuration": "N/A"}
    known |= {"host_networking": "N/A", "host_networking_topology": "N/A"}
    submission = {"submitter": "example", "system": "one", "description": known}
    training = {**SHORT["training"], "runs": 10}
    jobs = trained.plan("train", overlay={**SHORT, "training": training, "submission": submission})
    of_a_rule = Counter(job.split()[0] for job in jobs)
    assert of_a_rule["train_network"] == 9  # the first is there
    assert of_a_rule["check_training"] == 10  # the first's log has another submitter now
    assert of_a_rule["package_trainings"] == 1
    given = read_yaml(CONFIG)["training"]
    given = {**given, "learning_rate": 1.0, "compile": None, "threads": 1, "seed": 5}
    given |= {"nodes": 1, "parallel": "ddp"}
    seeds = {request(given, "cpu", repeat)["settings"]["seed"] for repeat in range(10)}
    assert seeds == set(range(5, 15))


def needed(**training) -> dict:
    """The short training, of which only what the rules ask for is evaluated."""
    evaluation = {**SHORT["training"]["evaluation"], "checkpoints": "needed"}
    return {**SHORT, "training": {**SHORT["training"], **training, "evaluation": evaluation}}


def test_one_checkpoint_after_another_is_evaluated_where_the_rules_ask_for_no_more(
    trained,
) -> None:
    for overlay, count in ((SHORT, 2), (needed(), 1)):
        jobs = trained.plan("train", overlay={**overlay, "run": "another"})
        of_a_rule = Counter(job.split()[0] for job in jobs)
        assert of_a_rule["sample_checkpoint"] == of_a_rule["score_checkpoint"] == count


def test_segments_are_the_same_training_and_evaluated_on_the_way(trained) -> None:
    whole = read(trained, "training.json")
    overlay = {**needed(segments=True), "run": "segments"}
    jobs = Counter(job.split()[0] for job in trained.plan("train", overlay=overlay))
    assert (jobs["train_segment"], jobs["score_checkpoint"], jobs["train_network"]) == (1, 1, 0)
    trained.snakemake("train", overlay=overlay)
    folder = trained.folder / "results/segments/training/0"
    facts = [json.loads((folder / f"segments/step-{n:09d}.json").read_text()) for n in (2, 3)]
    assert facts[1]["checkpoints"] == whole["checkpoints"]
    assert facts[0]["checkpoints"] == {"2": whole["checkpoints"]["2"]}
    scores = [json.loads((folder / f"scores/{n:09d}.json").read_text()) for n in (2, 3)]
    assert scores == [read(trained, f"scores/{n:09d}.json") for n in (2, 3)]
    assert trained.plan("train", overlay=overlay) == set()


def test_more_steps_go_on_from_the_last_checkpoint(trained) -> None:
    first = read(trained, "training.json")
    longer = needed(steps=4)
    trained.snakemake("train", overlay=longer)
    assert trained.plan("train", overlay=longer) == set()
    facts = read(trained, "training.json")
    assert sorted(facts["checkpoints"]) == ["2", "4"]
    assert facts["checkpoints"]["2"] == first["checkpoints"]["2"]
    log = (trained.folder / "logs/training-micro/training/0/train_network.log").read_text()
    assert "going on at step 3 of 4" in log


def test_an_official_training_is_planned(trained) -> None:
    folder = trained.folder / "moments"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number:05d}.tar").touch()
    place = Workplace(trained.folder, (PROJECT / "config" / "training.yaml",))
    few = {"samples": 1000, "training": {"data": {"folder": str(folder), "tars": 2}}}
    jobs = place.plan("train", overlay=few)
    of_a_rule = Counter(job.split()[0] for job in jobs)
    assert (of_a_rule["index_tar"], of_a_rule["encode_captions"]) == (2, 2)
    assert of_a_rule["sample_checkpoint"] == 2  # shards of the first checkpoint
    made = {"convert_stable_diffusion", "convert_open_clip", "convert_inception"}
    made |= {"sample_validation_captions", "resize_validation_images", "sample_captions"}
    assert made | {"train_network", "score_checkpoint"} <= set(of_a_rule)


def test_without_a_training_there_is_nothing_to_train(trained) -> None:
    place = Workplace(trained.folder, ())
    said = place.snakemake("train", "--dry-run", succeeds=False)
    assert "no section `training`" in said


def test_published_tars_are_fetched_and_verified(trained) -> None:
    drawn = trained.folder / "resources/training/pictures/images/00000.tar"
    mirror = trained.folder / "set-mirror/training/laion/published"
    mirror.mkdir(parents=True)
    (mirror / "00000.tar").write_bytes(drawn.read_bytes())
    listed = f"{hashlib.sha512(drawn.read_bytes()).hexdigest()}  00000.tar\n"
    (mirror / "sha512sums.txt").write_text(listed)
    published = {
        "address": "http://127.0.0.1:9/images",
        "sha256": hashlib.sha256(listed.encode()).hexdigest(),
    }
    data = {"name": "laion", "tars": 1, "published": published}
    overlay = {**SHORT, "mirror": "set-mirror", "training": {**SHORT["training"], "data": data}}
    tar = "resources/training/laion/published/00000.tar"
    index = "resources/training/laion/images/00000.index.npz"
    trained.snakemake(index, overlay=overlay)
    assert (trained.folder / tar).read_bytes() == drawn.read_bytes()
    planned = {job.split()[0] for job in trained.plan("fetch", overlay=overlay)}
    assert "fetch_training_tar" not in planned
    jobs = Counter(job.split()[0] for job in trained.plan("train", overlay=overlay))
    assert (jobs["convert_moments"], jobs["draw_training_images"]) == (1, 0)


def test_images_of_metadata_become_moments(trained) -> None:
    programs = install_stand_in(trained.folder.parent / "programs")
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    metadata = {"folder": "metadata", "pieces": 2, "rows": 3}
    data = {"name": "laion-web", "tars": 4, "metadata": metadata}
    overlay = {**SHORT, "training": {**SHORT["training"], "data": data}}
    index = "resources/training/laion-web/moments/00003.index.npz"
    with served_images(trained.folder.parent / "web", 12) as address:
        for part in range(2):
            rows = [
                metadata_row(n, f"{address}/{n}.png", "cc" if n % 6 != 2 else "?")
                for n in range(6 * part, 6 * part + 6)
            ]
            write_part(trained.folder / "metadata", part, rows)
        trained.snakemake(index, overlay=overlay, PATH=path)
    downloaded = trained.folder / "resources/training/laion-web/downloaded"
    samples = list(read_samples(downloaded / "00003.tar"))
    assert [stem for stem, _ in samples] == ["000030000", "000030001"]
    assert [given[".txt"].decode() for _, given in samples] == ["caption 10", "caption 11"]
    assert len(read_index(trained.folder / index)) == 2
    other = "resources/training/laion-web/downloaded/00002.tar"  # of the same part
    said = trained.snakemake(other, overlay={**overlay, "offline": True}, PATH=path, succeeds=False)
    assert "00002.tar needs a network, and the configuration says offline" in said
    assert "rule filter_metadata" not in said


def test_several_nodes_are_refused_on_one_machine(trained) -> None:
    several = {**SHORT, "training": {**SHORT["training"], "nodes": 2}}
    said = trained.snakemake("train", overlay=several, succeeds=False)
    assert "training.nodes is 2, and this runs on one machine" in said
    asked = trained.snakemake("train", "--dry-run", overlay={**several, "run": "nodes"})
    assert "mpi=srun" in asked and "nodes=2" in asked and "tasks=2" in asked
