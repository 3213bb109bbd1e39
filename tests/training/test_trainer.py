"""Trainings: in parallel, resumed, killed, diverged."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mutations import Edit
from t2i.base.files import read_json, write_json
from t2i.training import checkpoints, encodings, rank, steps, trainer
from t2i.training.checkpoints import STATE, WrongState, weights_file
from t2i.training.launch import (
    SCRIPTS,
    TrainingFailed,
    launch,
    origin,
    prepare_work,
    publish_checkpoints,
)
from t2i.training.tars import DamagedTar, Samples, index_tar, npy, write_index, write_tar
from t2i.training.text import TextEncoder
from t2i.training.trainer import Diverged
from trainings import ALONE, SIZES, request, write_data


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As in the processes that torchrun starts: sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, list[str]]:
    return write_data(tmp_path_factory.mktemp("data"))


def without_times(facts: dict) -> dict:
    rows = [{**row, "seconds": 0} for row in facts["curve"]]
    events = [{**event, "time_ms": 0} for event in facts["events"]]
    return {**facts, "curve": rows, "events": events}


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    rank.train(request(data, folder), ALONE)
    return folder


def same_bytes(one: Path, other: Path) -> bool:
    names = [weights_file(one, step).name for step in (3, 6)]
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_a_training_leaves_its_record(undisturbed: Path) -> None:
    facts = read_json(undisturbed / "training.json")
    assert sorted(facts["checkpoints"]) == ["3", "6"]
    assert [row["step"] for row in facts["curve"]] == [2, 3, 4, 6]
    rates = [row["learning_rate"] for row in facts["curve"]]
    assert rates == [steps.rate(step - 1, 1e-3, 4) for step in (2, 3, 4, 6)]
    keys = [event["key"] for event in facts["events"]]
    blocks = ["block_start", "block_stop"]
    assert keys == ["init_start", "init_stop", "run_start", *blocks, *blocks]
    seen = [event["metadata"].get("samples_count") for event in facts["events"][3:]]
    assert seen == [0, 12, 12, 24]


def test_more_steps_go_on_as_if_there_had_been_no_stop(data, undisturbed, tmp_path) -> None:
    rank.train(request(data, tmp_path, steps=3), ALONE)
    rank.train(request(data, tmp_path), ALONE)
    assert same_bytes(undisturbed, tmp_path)
    one, other = (read_json(folder / "training.json") for folder in (undisturbed, tmp_path))
    assert without_times(one) == without_times(other)


def test_readers_change_nothing(data, undisturbed, tmp_path) -> None:
    rank.train(request(data, tmp_path, workers=2), ALONE)
    assert same_bytes(undisturbed, tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        Edit("moments forgotten", checkpoints, "restore",
             "_part(parameter, handle.get_tensor(f\"{kind}.{name}\"))",
             "torch.zeros_like(parameter)"),
        Edit("steps forgotten", checkpoints, "restore", 'facts["step"]),', "1),"),
        Edit("weights forgotten", checkpoints, "restore",
             "parameter.copy_(_part(parameter, weights[name]))", "pass"),
        Edit("noise of the first step", steps, "draws", "generator_of(seed, step,",
             "generator_of(seed, 0,"),
        Edit("the same rows again", steps, "rows_of_step", "step * batch, (step + 1) * batch",
             "0, batch"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_forgotten_shows(edit: Edit, data, undisturbed, tmp_path, monkeypatch) -> None:
    rank.train(request(data, tmp_path, steps=3), ALONE)
    edit.apply(monkeypatch)
    rank.train(request(data, tmp_path), ALONE)
    assert not same_bytes(undisturbed, tmp_path)


def test_other_settings_are_not_gone_on_with(data, tmp_path) -> None:
    rank.train(request(data, tmp_path, steps=3), ALONE)
    with pytest.raises(WrongState, match="another learning_rate, seed"):
        rank.train(request(data, tmp_path, learning_rate=1.0, seed=8), ALONE)


def test_changed_weights_are_not_gone_on_with(data, tmp_path) -> None:
    rank.train(request(data, tmp_path, steps=3), ALONE)
    path = weights_file(tmp_path, 3)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(WrongState, match="sha256"):
        rank.train(request(data, tmp_path), ALONE)


def test_a_damaged_state_is_not_gone_on_with(data, tmp_path) -> None:
    rank.train(request(data, tmp_path, steps=3), ALONE)
    (tmp_path / STATE).write_bytes(b"nothing")
    with pytest.raises(WrongState, match="delete it to start over"):
        rank.train(request(data, tmp_path), ALONE)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_no_number_stops_before_its_checkpoint(
    value: float, data, tmp_path, monkeypatch
) -> None:
    original = trainer.velocity_loss
    calls: list[int] = []

    def loss(*arguments):
        calls.append(1)
        return original(*arguments) * (value if len(calls) == 5 else 1)

    monkeypatch.setattr(trainer, "velocity_loss", loss)
    with pytest.raises(Diverged, match="loss of step 4 is (nan|inf); the checkpoint of step 3 is"):
        rank.train(request(data, tmp_path), ALONE)
    assert weights_file(tmp_path, 3).exists()
    assert not weights_file(tmp_path, 6).exists()


def test_a_loss_that_rises_stops(data, tmp_path, monkeypatch) -> None:
    original = trainer.velocity_loss
    calls: list[int] = []

    def loss(*arguments):
        calls.append(1)
        return original(*arguments) * (100 if len(calls) > 4 else 1)

    monkeypatch.setattr(trainer, "velocity_loss", loss)
    with pytest.raises(Diverged, match=r"up to step 6 is .* times the lowest so far"):
        rank.train(request(data, tmp_path), ALONE)


def test_the_optimiser_is_the_references(data, tmp_path) -> None:
    """One step beside torch's own AdamW at the reference's values, from the same gradients."""
    rank.train(request(data, tmp_path, steps=1, interval=1, warm_up=1, learning_rate=0.01), ALONE)
    state = load_file(tmp_path / STATE)
    after = load_file(weights_file(tmp_path, 1))
    before = dict(rank.sd2_unet(SIZES, seed=7).named_parameters())
    rate = steps.rate(0, 0.01, 1)
    for name, parameter in before.items():
        gradient = state[f"exp_avg.{name}"] / 0.1
        assert torch.allclose(state[f"exp_avg_sq.{name}"], 0.001 * gradient**2, rtol=1e-4)
        step = gradient / (gradient.abs() + 1e-8)
        wanted = parameter * (1 - rate * 0.01) - rate * step
        assert torch.allclose(after[name], wanted, rtol=1e-4, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_are_one_with_the_double_batch(parallel: str, data, tmp_path) -> None:
    given = request(data, tmp_path / "two", processes=2, parallel=parallel, steps=1, interval=1)
    write_json(tmp_path / "request.json", given)
    launch(tmp_path / "request.json")
    rank.train(request(data, tmp_path / "one", steps=1, interval=1), ALONE)
    two, one = (read_json(tmp_path / name / "training.json") for name in ("two", "one"))
    assert two["processes"] == 2
    assert two["curve"][0]["loss"] == pytest.approx(one["curve"][0]["loss"], rel=1e-6)
    states = [load_file(tmp_path / name / STATE) for name in ("two", "one")]
    for name, value in states[1].items():
        if name.startswith("exp_avg."):
            largest = float(value.abs().max())
            assert float((states[0][name] - value).abs().max()) <= 1e-6 * max(largest, 1e-3), name


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_last_checkpoint(data, tmp_path) -> None:
    steps_wanted = 400
    folder = tmp_path / "killed"
    given = request(data, folder, steps=steps_wanted, interval=10)
    write_json(tmp_path / "request.json", given)
    process = subprocess.Popen(
        [sys.executable, "-m", "t2i.training.rank", str(tmp_path / "request.json")],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), "RANK": "0", "WORLD_SIZE": "1"},
    )
    deadline = time.monotonic() + 120
    while not weights_file(folder, 20).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    facts = checkpoints.read_facts(folder)
    assert facts is not None
    assert 10 <= facts["step"] < steps_wanted
    wanted = facts["step"] + 10
    rank.train({**given, "settings": {**given["settings"], "steps": wanted}}, ALONE)
    whole = request(data, tmp_path / "whole", steps=wanted, interval=10)
    rank.train(whole, ALONE)
    names = [weights_file(place, wanted) for place in (folder, tmp_path / "whole")]
    assert names[0].read_bytes() == names[1].read_bytes()
    assert list(folder.glob("*.part")) == []


@pytest.mark.slow
def test_shared_out_weights_go_on_from_a_checkpoint(data, undisturbed, tmp_path) -> None:
    """And leave one: three steps of two processes, one of one, two of two."""
    folder = tmp_path / "shared"
    write_json(
        tmp_path / "request.json", request(data, folder, processes=2, parallel="fsdp", steps=3)
    )
    launch(tmp_path / "request.json")
    rank.train(request(data, folder, steps=4), ALONE)
    write_json(tmp_path / "request.json", request(data, folder, processes=2, parallel="fsdp"))
    launch(tmp_path / "request.json")
    found, wanted = (load_file(weights_file(place, 6)) for place in (folder, undisturbed))
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        # AdamW divides by the gradient's size, so that rounding moves what hardly has one.
        assert float((found[name] - value).abs().mean()) <= 2e-5, name
    losses = [
        [row["loss"] for row in read_json(place / "training.json")["curve"]]
        for place in (folder, undisturbed)
    ]
    assert losses[0][-1] == pytest.approx(losses[1][-1], rel=1e-4)


@pytest.mark.slow
def test_a_failing_process_is_told(data, tmp_path) -> None:
    given = request({**data, "tars": data["tars"][:1]}, tmp_path / "failed")
    write_json(tmp_path / "request.json", given)
    with pytest.raises(TrainingFailed, match="stands above in the log"):
        launch(tmp_path / "request.json")


def test_a_changed_caption_is_refused(data, tmp_path: Path) -> None:
    path = tmp_path / "00000.npy"
    encodings.save_hidden(path, np.zeros((2, 77, 32), dtype=np.float16))
    hidden = np.load(path)
    hidden[1, 5, 5] = 1
    np.save(path, hidden)
    found = encodings.Encodings([path])
    assert not found[0, 0].any()
    with pytest.raises(DamagedTar, match="row 1 has changed"):
        found[0, 1]


def test_captions_encoded_ahead_are_those_encoded_online(tmp_path: Path) -> None:
    tar = tmp_path / "00000.tar"
    texts = ["a red circle", "a small green star on the left", "nothing"]
    moments = np.random.default_rng(1).standard_normal((3, 1, 8, 8, 8)).astype(np.float32)
    write_tar(
        tar,
        ((f"{n}", {".npy": npy(moments[n]), ".txt": texts[n].encode()}) for n in range(3)),
    )
    index = index_tar(tar)
    write_index(tmp_path / "00000.index.npz", index)
    model = Path(__file__).parents[2] / "models" / "micro-sdxl"
    folders = model / "tokenizer_2", model / "text_encoder_2"
    encoder = TextEncoder(*folders, "cpu")
    encodings.write_encodings(tmp_path / "00000.npy", Samples([tar], [index]), encoder, 2)
    found = encodings.Encodings([tmp_path / "00000.npy"])
    for row, text in enumerate(texts):
        assert np.abs(found[0, row] - encoder([text])[0].half().numpy()).max() <= 1e-3
    losses = []
    for name, hidden in (("ahead", [str(tmp_path / "00000.npy")]), ("online", [])):
        data = {"tars": [str(tar)], "indices": [str(tmp_path / "00000.index.npz")]}
        given = request({**data, "hidden": hidden}, tmp_path / name, steps=2)
        given["sizes"] = {**SIZES, "cross_attention_dim": 96}
        given.update(tokenizer=str(folders[0]), encoder=str(folders[1]))
        rank.train(given, ALONE)
        losses.append(read_json(tmp_path / name / "training.json")["curve"][-1]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_other_code_or_data_start_over_and_keep_what_was(data, tmp_path: Path) -> None:
    work = tmp_path / "work"
    first = origin("code", data["indices"], [])
    prepare_work(work, first)
    (work / "state").touch()
    prepare_work(work, origin("code", data["indices"], []))
    assert (work / "state").exists()
    for other in (origin("edited", data["indices"], []), origin("code", data["indices"][:1], [])):
        (work / "state").touch()
        prepare_work(work, other)
        assert not (work / "state").exists()
        assert (tmp_path / "work.older" / "state").exists()


def test_outputs_are_links_that_a_failed_job_may_lose(undisturbed: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "outputs" / weights_file(undisturbed, step).name for step in (3, 6)]
    publish_checkpoints(undisturbed, outputs)
    publish_checkpoints(undisturbed, outputs)
    assert all(path.samefile(undisturbed / path.name) for path in outputs)
    for path in outputs:
        path.unlink()
    assert weights_file(undisturbed, 6).exists()


def test_several_nodes_need_slurm(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "request.json"
    write_json(path, {"nodes": 2, "processes": 1, "device": "cpu"})
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(TrainingFailed, match="start with --profile slurm, or set it to 1"):
        launch(path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    before = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TrainingFailed, match="srun, which starts them, is not here"):
        launch(path)
    # One whose tasks have failed, and who waits for a node that died.
    srun = tmp_path / "srun"
    lines = (
        "#!/bin/sh",
        f'echo "$@" > {tmp_path}/asked',
        f"touch {tmp_path}/failed",
        "exec sleep 60",
    )
    srun.write_text("\n".join(lines))
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{before}")
    monkeypatch.setattr("t2i.training.launch.GRACE", 2)
    began = time.monotonic()
    with pytest.raises(TrainingFailed, match="stands above in the log"):
        launch(path)
    assert time.monotonic() - began < 30
    assert (tmp_path / "asked").read_text().startswith("--jobid=7 --nodes=2 --ntasks=2 ")
    assert read_json(path)["meeting"]["endpoint"].endswith(":20007")
