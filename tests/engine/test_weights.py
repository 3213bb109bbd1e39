"""Weights: read in pieces on several threads, hashed on the way, checked against safetensors."""

import t2i.job.torch_shim  # noqa: F401

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file
from torch import nn

from random_sdxl import random_vae
from t2i.engine import weights

DTYPES = sorted(weights.TYPES.values(), key=str)
SHAPES = st.lists(st.integers(0, 9), max_size=3)
TENSORS = st.dictionaries(
    st.text(max_size=6).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(DTYPES), SHAPES),
    max_size=6,
)


def random_tensors(layout: dict[str, tuple[torch.dtype, list[int]]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.randint(0, 2 if dtype == torch.bool else 99, shape, generator=generator).to(
            dtype
        )
        for name, (dtype, shape) in layout.items()
    }


def shell_digest(path: Path, piece: int) -> str:
    """The digest as the documentation tells a user to take it."""
    name = shlex.quote(str(path))
    command = f"split -b {piece} --filter=sha256sum {name} | cut -c-64 | sha256sum"
    done = subprocess.run(command, shell=True, check=True, capture_output=True, text=True)
    return done.stdout.split()[0]


@given(TENSORS, st.integers(1, 300))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_tensors_are_those_of_safetensors_however_the_file_is_cut(
    tmp_path: Path, layout: dict[str, tuple[torch.dtype, list[int]]], piece: int
) -> None:
    path = tmp_path / "some.safetensors"
    save_file(random_tensors(layout), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "PIECE", piece)
        tensors, digests = weights.load_files([path], "cpu")
        assert digests == weights.digest_files([path])
    expected = load_file(path)
    assert tensors[path].keys() == expected.keys()
    for name, value in expected.items():
        assert tensors[path][name].dtype == value.dtype
        assert torch.equal(tensors[path][name], value)


@pytest.mark.parametrize("size", [0, 1, (1 << 24) - 1, 1 << 24, (1 << 24) + 1, (5 << 23) + 3])
def test_a_digest_is_what_the_shell_says(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    assert weights.digest_files([path]) == {path: shell_digest(path, 1 << 24)}


def test_every_byte_counts_in_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PIECE", 64)
    data = save(random_tensors({"a": (torch.float32, [9]), "b": (torch.int8, [30])}))
    paths = [tmp_path / f"{place}.safetensors" for place in range(len(data) + 1)]
    for place, path in enumerate(paths):
        path.write_bytes(
            data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            if place < len(data)
            else data
        )
    assert len(set(weights.digest_files(paths).values())) == len(paths)


def header_with(**changes: object) -> dict[str, object]:
    header = {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F16", "shape": [2, 2], "data_offsets": [8, 16]},
    }
    return {**header, "b": {**header["b"], **changes}}


def file_with(header: object, data: int = 16) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        (1 << 40).to_bytes(8, "little") + b"{}",
        file_with({})[:8] + b"[]",
        file_with("text"),
        file_with([1, 2]),
        file_with(header_with(), data=15),
        file_with(header_with(), data=17),
        file_with(header_with(data_offsets=[0, 8])),
        file_with(header_with(data_offsets=[4, 12])),
        file_with(header_with(data_offsets=[9, 17]), data=17),
        file_with(header_with(data_offsets=[-8, 0])),
        file_with(header_with(data_offsets=[8])),
        file_with(header_with(shape=[2, 3])),
        file_with(header_with(shape=[-2, -2])),
        file_with(header_with(shape=["x"])),
        file_with(header_with(dtype="F8_E4M3")),
        file_with({"a": {}}),
        file_with({"a": 7}),
        b"[" * 100_000,
        b"PK" + bytes(100),
    ],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.safetensors"
    path.write_bytes(content)
    with pytest.raises(weights.WeightsError, match=r"some\.safetensors: not a whole safetensors"):
        weights.load_files([path], "cpu")


def test_a_well_formed_file_of_the_same_kind_is_read(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    path.write_bytes(file_with(header_with()))
    assert [stored.name for stored in weights.read_header(path)] == ["a", "b"]


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vae")
    random_vae().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("remove", "add", "message"),
    [
        (1, {}, r"1 missing: \w+"),
        (5, {}, r"5 missing: [\w.]+, [\w.]+, [\w.]+, \.\.\.\)"),
        (0, {"more": 3}, "1 unexpected: more"),
        (1, {"more": 3}, "1 missing: .*; 1 unexpected: more"),
        (0, {"encoder.conv_in.bias": 9}, "1 of another shape: encoder.conv_in.bias"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    vae: Path, remove: int, add: dict[str, int], message: str
) -> None:
    network = weights.empty_network(AutoencoderKL, vae, torch.float32)
    path = vae / "diffusion_pytorch_model.safetensors"
    tensors = dict(sorted(load_file(path).items())[remove:])
    tensors |= {name: torch.zeros(size) for name, size in add.items()}
    with pytest.raises(weights.WeightsError, match=f"^{re.escape(str(path))}: .*{message}"):
        weights.fill_network(network, {path: tensors})


def test_a_buffer_without_a_value_is_refused(tmp_path: Path) -> None:
    """Nothing of SDXL has one; another kind of network would compute with arbitrary memory."""
    with torch.device("meta"):
        network = nn.Module()
        network.register_buffer("table", torch.arange(3), persistent=False)
        network.layer = nn.Linear(1, 1)
    state = nn.Linear(1, 1).state_dict(prefix="layer.")
    with pytest.raises(weights.WeightsError, match="missing value for the buffer table"):
        weights.fill_network(network, {tmp_path / "file": state})


def test_an_empty_network_takes_no_memory(vae: Path) -> None:
    network = weights.empty_network(AutoencoderKL, vae, torch.float32)
    assert {value.device.type for value in network.state_dict().values()} == {"meta"}
