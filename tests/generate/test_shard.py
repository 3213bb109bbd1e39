"""A shard is what its manifest says, or it is not used."""

import io
import json
import shutil
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kept_time import flip_bit
from t2i.base.files import sha256_json
from t2i.base.images import decode_png, encode_png, pixel_digest
from t2i.generate import shard as module
from t2i.generate.damage import VERIFIED, set_aside_damaged_shards
from t2i.generate.shard import (
    DamagedShard,
    add_sample,
    add_samples,
    read_manifest,
    read_shard,
    set_aside_damaged,
    write_images,
    write_manifest,
)

SIDE = 16
INDICES = range(16, 20)


def picture(index):
    """Pixels that are a function of the sample index."""
    return np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def write_shard(folder, name="00016-00020"):
    """Write a shard; returns its tar and manifest."""
    tar, manifest = folder / f"{name}.tar", folder / f"{name}.json"
    with tarfile.open(tar, "w") as handle:
        samples = [add_sample(handle, i, 1000 + i, picture(i), finite=i != 18) for i in INDICES]
    write_manifest(manifest, module.archive_facts(tar), samples, {"shard": name, "seconds": 1.25})
    return tar, manifest


@pytest.fixture
def shard(tmp_path):
    return write_shard(tmp_path)


def test_a_tar_is_the_same_from_any_number_of_threads(shard, tmp_path) -> None:
    rows = [(index, 1000 + index, picture(index), index != 18) for index in INDICES]
    for threads in (1, 3):
        with tarfile.open(tmp_path / "again.tar", "w") as archive:
            samples = add_samples(archive, rows, threads)
        assert samples == read_manifest(shard[1])["samples"]
        assert (tmp_path / "again.tar").read_bytes() == shard[0].read_bytes()


def content(tar, manifest):
    """Everything a shard says, or None where it is refused."""
    try:
        images = [(sample, pixels.tobytes()) for sample, pixels in read_shard(tar, manifest)]
        return images, read_manifest(manifest)
    except DamagedShard as error:
        assert str(tar.with_suffix("")) in str(error)
        return None


def seal(manifest, **changes):
    """Change a manifest and give it the digest that fits."""
    facts = {**json.loads(manifest.read_text()), **changes}
    facts.pop("digest")
    manifest.write_text(json.dumps({**facts, "digest": sha256_json(facts)}))


def replace_member(tar, manifest, name, data):
    """Put other bytes into a tar under a member's name, and keep the manifest's facts true."""
    with tarfile.open(tar) as old:
        members = [(member.name, old.extractfile(member).read()) for member in old]
    with tarfile.open(tar, "w") as new:
        for member, kept in members:
            body = data if member == name else kept
            entry = tarfile.TarInfo(member)
            entry.size = len(body)
            new.addfile(entry, io.BytesIO(body))
    seal(manifest, archive=module.archive_facts(tar))


def test_what_is_written_is_read(shard):
    tar, manifest = shard
    images = list(read_shard(tar, manifest))
    assert [sample.index for sample, _ in images] == list(INDICES)
    assert [sample.file for sample, _ in images] == [f"{i:05d}.png" for i in INDICES]
    assert [sample.caption_id for sample, _ in images] == [1016, 1017, 1018, 1019]
    assert [sample.finite for sample, _ in images] == [True, True, False, True]
    for sample, pixels in images:
        assert np.array_equal(pixels, picture(sample.index))
        assert sample.sha256 == pixel_digest(picture(sample.index))
    facts = read_manifest(manifest)
    assert (facts["schema"], facts["shard"], facts["seconds"]) == (1, "00016-00020", 1.25)
    assert set_aside_damaged(tar, manifest, {}) is None


def test_only_wanted_samples_are_read(shard):
    assert [sample.index for sample, _ in read_shard(*shard, wanted={17, 19, 99})] == [17, 19]


def test_bytes_of_a_tar_follow_from_the_pixels_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = write_shard(tmp_path / "a"), write_shard(tmp_path / "b")
    assert first[0].read_bytes() == second[0].read_bytes()
    assert first[1].read_bytes() == second[1].read_bytes()


def test_every_flipped_bit_of_the_tar_is_detected_though_its_times_are_kept(shard):
    tar, manifest = shard
    verified = {}
    assert set_aside_damaged(tar, manifest, verified) is None
    sound, before = tar.read_bytes(), content(tar, manifest)
    draw = np.random.default_rng(1)
    for offset in draw.choice(len(sound), 200, replace=False).tolist():
        flip_bit(tar, 8 * offset + int(draw.integers(8)))
        # Padding and headers carry no pixels, so reading may succeed; then it reads the same.
        assert content(tar, manifest) in (before, None)
        assert "its manifest says" in str(set_aside_damaged(tar, manifest, verified))
        assert not tar.exists()
        assert not manifest.exists()
        tar.with_name(f"{tar.name}.damaged").replace(tar)
        manifest.with_name(f"{manifest.name}.damaged").replace(manifest)
        tar.write_bytes(sound)


def test_every_flipped_bit_of_the_manifest_is_detected_or_changes_nothing(shard):
    tar, manifest = shard
    sound, before = manifest.read_bytes(), content(tar, manifest)
    draw = np.random.default_rng(2)
    harmless = 0
    for offset in draw.choice(len(sound), 200, replace=False).tolist():
        flip_bit(manifest, 8 * offset + int(draw.integers(8)))
        after = content(tar, manifest)
        assert after in (before, None), f"offset {offset}"
        harmless += after is not None
        problem = set_aside_damaged(tar, manifest, {})
        assert (problem is None) == (after is not None)
        for path in (tar, manifest):
            if problem:
                path.with_name(f"{path.name}.damaged").replace(path)
        manifest.write_bytes(sound)
    assert harmless < 20  # a space that became another white space


@pytest.mark.parametrize("keep", [0, 1, 511, 512, 1000, -10_240, -5_000])
def test_cut_tar_is_detected(shard, keep):
    tar, manifest = shard
    tar.write_bytes(tar.read_bytes()[:keep])
    assert keep == -5000 or content(tar, manifest) is None  # zeros behind the last member
    assert str(tar) in str(set_aside_damaged(tar, manifest, {}))


@pytest.mark.parametrize("keep", [0, 1, 100, -2])
def test_cut_manifest_is_detected(shard, keep):
    tar, manifest = shard
    manifest.write_bytes(manifest.read_bytes()[:keep])
    with pytest.raises(DamagedShard, match="00016-00020.json: not a whole manifest"):
        read_manifest(manifest)
    assert str(manifest) in str(set_aside_damaged(tar, manifest, {}))


def test_swapped_members_are_detected_and_named(shard):
    tar, manifest = shard
    replace_member(tar, manifest, "00017.png", encode_png(picture(19)))
    with pytest.raises(DamagedShard, match="the pixels of sample 17 have changed"):
        list(read_shard(tar, manifest))


def test_missing_member_is_detected_and_named(shard):
    tar, manifest = shard
    with tarfile.open(tar, "w") as handle:
        add_sample(handle, 16, 1, picture(16), finite=True)
    with pytest.raises(DamagedShard, match="00017.png"):
        list(read_shard(tar, manifest))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_other_modes_are_refused(shard, mode):
    tar, manifest = shard
    buffer = io.BytesIO()
    Image.new(mode, (SIDE, SIDE)).save(buffer, "PNG")
    replace_member(tar, manifest, "00018.png", buffer.getvalue())
    with pytest.raises(DamagedShard, match=f"expected an RGB PNG, got mode {mode}"):
        list(read_shard(tar, manifest))


def test_other_formats_are_refused():
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(buffer, "JPEG")
    with pytest.raises(OSError, match="cannot identify image"):
        decode_png(buffer.getvalue())


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8193, 10_000, 20_000, 2**31 - 1])
def test_decompression_bombs_are_refused_before_they_are_decoded(shard, side, monkeypatch):
    tar, manifest = shard

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    bomb = b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("the image was decoded"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match="pixels"):
        decode_png(bomb)
    replace_member(tar, manifest, "00016.png", bomb)
    with pytest.raises(DamagedShard, match="damaged"):
        list(read_shard(tar, manifest))


def test_links_are_not_followed(shard, tmp_path):
    tar, manifest = shard
    (tmp_path / "outside.png").write_bytes(encode_png(picture(16)))
    with tarfile.open(tar, "w") as handle:
        add_sample(handle, 19, 1019, picture(16), finite=True)
        for kind, target in ((tarfile.LNKTYPE, "00019.png"), (tarfile.SYMTYPE, "00019.png")):
            member = tarfile.TarInfo(f"{16 if kind == tarfile.LNKTYPE else 17:05d}.png")
            member.type, member.linkname = kind, target
            handle.addfile(member)
    with pytest.raises(DamagedShard, match="00016.png is not a plain file"):
        list(read_shard(tar, manifest))
    with pytest.raises(DamagedShard, match="00017.png is not a plain file"):
        list(read_shard(tar, manifest, wanted={17}))


@pytest.mark.parametrize(
    "shape, dtype", [((4, 4), "uint8"), ((4, 4, 4), "uint8"), ((4, 4, 3), "f4")]
)
def test_digests_are_of_rgb_bytes_only(shape, dtype):
    with pytest.raises(ValueError, match="expected .height, width, 3. uint8"):
        pixel_digest(np.zeros(shape, dtype))


def test_manifest_of_another_version_says_so(shard):
    seal(shard[1], schema=2)
    with pytest.raises(DamagedShard, match="00016-00020.json: schema 2, this version reads 1"):
        read_manifest(shard[1])


@pytest.mark.parametrize(
    "text", ["[]", "null", "3", '"text"', '{"schema": 1}', '{"schema": 1, "digest": "0"}']
)
def test_json_that_is_no_manifest_is_refused(shard, text):
    shard[1].write_text(text)
    with pytest.raises(DamagedShard, match="00016-00020.json"):
        read_manifest(shard[1])


def test_unchanged_tar_is_hashed_once_and_a_touched_one_again(shard, monkeypatch):
    tar, manifest = shard
    hashed = []
    facts = module.archive_facts
    monkeypatch.setattr(module, "archive_facts", lambda path: (hashed.append(path), facts(path))[1])
    verified = {}
    for _ in range(3):
        assert set_aside_damaged(tar, manifest, verified) is None
    assert hashed == [tar]
    verified = json.loads(json.dumps(verified))  # as it comes back from its file
    assert set_aside_damaged(tar, manifest, verified) is None
    assert hashed == [tar]
    tar.touch()
    assert set_aside_damaged(tar, manifest, verified) is None
    assert hashed == [tar, tar]


def test_change_with_the_old_size_and_times_is_seen_by_the_change_time(shard):
    tar, manifest = shard
    verified = {}
    assert set_aside_damaged(tar, manifest, verified) is None
    before = tar.stat()
    flip_bit(tar, 4800)
    after = tar.stat()
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ino,
    )
    assert before.st_ctime_ns != after.st_ctime_ns
    assert set_aside_damaged(tar, manifest, verified) is not None


def test_changed_manifest_is_compared_though_the_tar_was_verified(shard):
    tar, manifest = shard
    verified = {}
    assert set_aside_damaged(tar, manifest, verified) is None
    seal(manifest, archive={"size": tar.stat().st_size, "sha256": "0" * 64})
    assert "its manifest says 0000" in str(set_aside_damaged(tar, manifest, verified))


def test_both_files_are_renamed_and_kept(shard):
    tar, manifest = shard
    flip_bit(tar, 5603)
    contents = tar.read_bytes(), manifest.read_bytes()
    set_aside_damaged(tar, manifest, {})
    kept = [Path(f"{path}.damaged") for path in shard]
    assert tuple(path.read_bytes() for path in kept) == contents
    assert sorted(tar.parent.iterdir()) == sorted(kept)
    assert set_aside_damaged(tar, manifest, {}) is None  # nothing there any more


@pytest.mark.parametrize("missing", [0, 1])
def test_half_a_shard_is_left_to_the_scheduler(shard, missing):
    shard[missing].unlink()
    assert set_aside_damaged(*shard, {}) is None
    assert shard[1 - missing].exists()


def test_pictures_come_back_in_order(tmp_path):
    images = [(f"{n}.png", Image.fromarray(picture(n))) for n in (3, 1, 2)]
    write_images(tmp_path / "images.tar", iter(images))
    with tarfile.open(tmp_path / "images.tar") as archive:
        found = [
            (member.name, np.asarray(Image.open(archive.extractfile(member)))) for member in archive
        ]
    assert [name for name, _ in found] == ["3.png", "1.png", "2.png"]
    assert all(np.array_equal(pixels, picture(int(name[0]))) for name, pixels in found)


class TestWholeRun:
    """Looking through all shards of a run before its first job."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        self.shards = Path("results/demo/fp32/shards")
        self.shards.mkdir(parents=True)
        self.tar, self.manifest = write_shard(self.shards)
        write_shard(self.shards, "00020-00024")

    def look(self):
        names = ["00016-00020", "00020-00024", "00024-00028"]
        return set_aside_damaged_shards("demo", ["fp32", "bf16"], names)

    def test_sound_shards_stay_and_are_remembered(self, monkeypatch):
        assert self.look() == []
        monkeypatch.setattr(module, "archive_facts", lambda _: pytest.fail("hashed again"))
        assert self.look() == []

    def test_damaged_ones_go_and_others_stay(self):
        flip_bit(self.tar, 4801)
        (problem,) = self.look()
        assert str(self.tar) in problem
        assert not self.tar.exists()
        assert Path(self.shards, "00020-00024.tar").exists()
        assert self.look() == []

    def test_nothing_is_touched_while_another_run_holds_the_lock(self):
        flip_bit(self.tar, 4801)
        lock = Path(".snakemake/locks/0.input.lock")
        lock.parent.mkdir(parents=True)
        lock.touch()
        assert self.look() == []
        assert self.tar.exists()
        lock.unlink()
        assert len(self.look()) == 1

    @pytest.mark.parametrize("text", ["", "{", "[]", "[1]", "null", '{"x": 1}'])
    def test_damaged_memory_is_forgotten(self, text):
        VERIFIED.parent.mkdir()
        VERIFIED.write_text(text)
        flip_bit(self.tar, 4801)
        assert len(self.look()) == 1

    def test_run_without_results_is_no_trouble(self):
        shutil.rmtree("results")
        assert self.look() == []
        assert not VERIFIED.exists()
