"""Compiled kernels: made for one GPU model and software, verified, copied for each job."""

import os
import shutil
import tarfile
from pathlib import Path

import pytest
from triton.runtime.cache import FileCacheManager

from t2i.base.files import read_json, write_json
from t2i.engine import compiled
from t2i.engine.compiled import CACHE_VARIABLE, compiled_folder, use_compiled, write_compiled
from t2i.engine.manifest import EngineError

HERE = {"kind": "cuda", "name": "NVIDIA H100", "arch": "sm_90", "torch": "2", "triton": "3"}
HERE |= {"cuda": "13"}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine's folder, beside which two kernels were compiled on this machine."""
    monkeypatch.setattr(compiled, "target", lambda: dict(HERE))
    monkeypatch.setenv(CACHE_VARIABLE, "unset")
    cache = tmp_path / "cache"
    for name in ("AB/kernel.cubin", "CD/kernel.json"):
        (cache / name).parent.mkdir(parents=True)
        (cache / name).write_text(name)
    folder = tmp_path / "run" / "engine"
    folder.mkdir(parents=True)
    write_compiled(folder, "digest of the engine", cache, [8, 1])
    return folder


def files(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def test_each_job_gets_a_copy_of_its_own(engine: Path) -> None:
    one, other = use_compiled(engine), use_compiled(engine)
    assert os.environ[CACHE_VARIABLE] == other.name != one.name
    assert files(Path(one.name)) == {name: name for name in ("AB/kernel.cubin", "CD/kernel.json")}
    Path(one.name, "AB/kernel.cubin").write_text("changed by this job")
    assert files(Path(other.name))["AB/kernel.cubin"] == "AB/kernel.cubin"
    one.cleanup()
    assert not Path(one.name).exists()
    manifest = read_json(compiled_folder(engine) / compiled.MANIFEST)
    assert manifest["engine"] == "digest of the engine"
    assert manifest["batch_sizes"] == [1, 8]
    assert manifest["target"] == HERE


def test_the_same_kernels_make_the_same_tar(engine: Path, tmp_path: Path) -> None:
    before = (compiled_folder(engine) / compiled.KERNELS).read_bytes()
    os.utime(tmp_path / "cache/AB/kernel.cubin", (1, 1))
    write_compiled(engine, "digest of the engine", tmp_path / "cache", [8, 1])
    assert (compiled_folder(engine) / compiled.KERNELS).read_bytes() == before


@pytest.mark.parametrize("key", ["name", "arch", "torch", "triton", "cuda"])
def test_kernels_for_something_else_are_not_used(engine, monkeypatch, caplog, key) -> None:
    monkeypatch.setattr(compiled, "target", lambda: {**HERE, key: "another"})
    private = use_compiled(engine)
    assert files(Path(private.name)) == {}
    assert f"{key} another" in caplog.text
    assert "this job compiles its kernels itself" in caplog.text
    assert os.environ[CACHE_VARIABLE] == private.name


def test_without_kernels_a_job_compiles_its_own(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "unset")
    private = use_compiled(tmp_path / "engine")
    assert os.environ[CACHE_VARIABLE] == private.name
    assert files(Path(private.name)) == {}


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_changed_kernels_are_refused(engine: Path, damage: str) -> None:
    kernels = compiled_folder(engine) / compiled.KERNELS
    if damage == "missing":
        kernels.unlink()
    else:
        content = bytearray(kernels.read_bytes())
        content[600] ^= 1
        kernels.write_bytes(content)
    with pytest.raises(EngineError, match=r"kernels\.tar has changed since it was made; delete"):
        use_compiled(engine)


def test_a_member_that_leads_out_of_the_copy_is_refused(engine: Path) -> None:
    folder = compiled_folder(engine)
    with tarfile.open(folder / compiled.KERNELS, "w") as archive:
        archive.addfile(tarfile.TarInfo("../outside"))
    manifest = read_json(folder / compiled.MANIFEST)
    manifest["kernels"]["sha256"] = compiled.sha256_file(folder / compiled.KERNELS)
    write_json(folder / compiled.MANIFEST, manifest)
    with pytest.raises(tarfile.OutsideDestinationError):
        use_compiled(engine)


def test_triton_finds_a_kernel_in_a_copy(engine: Path, tmp_path: Path, monkeypatch) -> None:
    cache = tmp_path / "other"
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    kept = FileCacheManager("EF")
    kept.put_group("norm.json", {"norm.json": kept.put("{}", "norm.json")})
    write_compiled(engine, "digest of the engine", cache, [8])
    shutil.rmtree(cache)
    private = use_compiled(engine)
    found = FileCacheManager("EF").get_group("norm.json")
    assert found == {"norm.json": str(Path(private.name, "EF", "norm.json"))}
    assert Path(found["norm.json"]).read_text() == "{}"
