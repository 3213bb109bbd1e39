"""Sets of images in folders and archives: listed as sha256sum does, refused in words."""

import io
import os
import re
import shutil
import stat
import subprocess
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i.fetch import image_sets


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of images at several depths, among files that are none."""
    root = tmp_path / "my pictures"
    (root / "a/deep").mkdir(parents=True)
    for number, ending in enumerate(image_sets.SUFFIXES):
        (root / "a/deep" / f"é {number}{ending}").write_bytes(number * b"image")
    for name in ("b.jpg", "UPPER.PNG", "readme.txt", ".hidden.png"):
        (root / name).write_bytes(name.encode())
    return root


def as_zip(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    return target


def as_tar(folder: Path, target: Path) -> Path:
    subprocess.run(["tar", "--create", "--file", target, "--directory", folder, "."], check=True)
    return target


def test_a_list_is_what_sha256sum_says_whatever_holds_the_images(tmp_path, folder):
    names = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("readme.txt", ".hidden.png")
    )
    said = subprocess.run(
        ["sha256sum", "--", *names], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    expected = [(line[66:], (folder / line[66:]).stat().st_size, line[:64]) for line in said]
    for path in (folder, as_zip(folder, tmp_path / "x.zip"), as_tar(folder, tmp_path / "x.tar")):
        listed, others = image_sets.list_images(path)
        assert [(image.name, image.size, image.sha256) for image in listed] == expected
        assert others == 2
        content = dict(image_sets.read_files(path, listed[::-1]))
        assert content == {name: (folder / name).read_bytes() for name in names}
        image_sets.write_list(tmp_path / "list.json", listed, others)
        assert image_sets.read_list(tmp_path / "list.json") == listed


def tar_of(path: Path, *members: tuple[str, dict]) -> Path:
    """A tar with two sound images and members of other kinds."""
    with tarfile.open(path, "w") as archive:
        for name, facts in (("a.png", {}), ("b.png", {}), *members):
            entry = tarfile.TarInfo(name)
            for key, value in facts.items():
                setattr(entry, key, value)
            entry.size = 0 if facts else 3
            archive.addfile(entry, io.BytesIO(b"png"))
    return path


def zip_of(path: Path, name: str, mode: int = 0, flags: int = 0) -> Path:
    """A zip with two sound images and one more member."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # a name that stands twice
        for member in ("a.png", "b.png", name):
            entry = zipfile.ZipInfo(member)
            entry.external_attr = (mode if member == name else 0) << 16
            archive.writestr(entry, b"png")
    if flags:
        content = bytearray(path.read_bytes())
        for head, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            content[content.rindex(head) + place] |= flags
        path.write_bytes(content)
    return path


def folder_of(path: Path, **links: str) -> Path:
    """A folder with two sound images and links."""
    path.mkdir()
    for name in ("a.png", "b.png"):
        (path / name).write_bytes(b"png")
    for name, target in links.items():
        (path / name.replace("_", ".")).symlink_to(target)
    return path


def cut(path: Path, size: int) -> Path:
    os.truncate(path, size)
    return path


def flipped(path: Path, place: int) -> Path:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    return path


HARMS = {
    "link in a tar": (
        lambda at: tar_of(at, ("c.png", {"type": tarfile.SYMTYPE, "linkname": "a.png"})),
        "'c.png' is a link",
    ),
    "hard link in a tar": (
        lambda at: tar_of(at, ("c.png", {"type": tarfile.LNKTYPE, "linkname": "a.png"})),
        "'c.png' is a link",
    ),
    "pipe in a tar": (
        lambda at: tar_of(at, ("c.png", {"type": tarfile.FIFOTYPE})),
        "'c.png' is a link or no plain file",
    ),
    "absolute name": (lambda at: tar_of(at, ("/c.png", {})), "'/c.png' leads out"),
    "name above": (lambda at: tar_of(at, ("x/../../c.png", {})), "leads out"),
    "name twice": (lambda at: tar_of(at, ("./a.png", {})), "'a.png' is there twice"),
    "tar cut between members": (lambda at: cut(tar_of(at), 1024), "cut off at byte 1024"),
    "tar cut inside a member": (lambda at: cut(tar_of(at), 1025 + 512), "unexpected end"),
    "tar with a damaged header": (lambda at: flipped(tar_of(at), 1024 + 150), "at byte 1024"),
    "no tar": (lambda at: flipped(tar_of(at), 150), "x.tar: cannot be read"),
    "link in a zip": (
        lambda at: zip_of(at.with_suffix(".zip"), "c.png", stat.S_IFLNK | 0o777),
        "'c.png' is a link",
    ),
    "name above in a zip": (lambda at: zip_of(at.with_suffix(".zip"), "../c.png"), "leads out"),
    "name twice in a zip": (lambda at: zip_of(at.with_suffix(".zip"), "a.png"), "there twice"),
    "encrypted": (lambda at: zip_of(at.with_suffix(".zip"), "c.png", flags=1), "c.png cannot be"),
    "flipped byte": (
        lambda at: flipped(zip_of(at.with_suffix(".zip"), "c.png"), 36),
        "a.png cannot be read (Bad CRC-32",
    ),
    "no zip": (
        lambda at: cut(zip_of(at.with_suffix(".zip"), "c.png"), 40), "cannot be read as a set"
    ),
    "link in a folder": (lambda at: folder_of(at.with_suffix(""), c_png="a.png"), "'c.png' is a"),
    "link to a folder": (lambda at: folder_of(at.with_suffix(""), c=".."), "c is a link to a f"),
    "nothing": (lambda at: at, "No such file"),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_a_set_that_cannot_be_trusted_is_refused_with_its_name(tmp_path, harm):
    make, message = HARMS[harm]
    path = make(tmp_path / "x.tar")
    with pytest.raises(image_sets.ImageSetError) as caught:
        image_sets.list_images(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_set_needs_two_images_of_bounded_size(tmp_path, folder, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/readme.txt").touch()
    with pytest.raises(image_sets.ImageSetError, match="0 images among 1 files"):
        image_sets.list_images(tmp_path / "empty")
    monkeypatch.setattr(image_sets, "MAX_BYTES", 10)
    with pytest.raises(image_sets.ImageSetError, match=r"bytes, more than 10; refused"):
        image_sets.list_images(folder)


def test_an_image_that_changed_or_went_since_it_was_listed_is_named(folder):
    listed, _ = image_sets.list_images(folder)
    victim = folder / listed[3].name
    content = victim.read_bytes()
    flipped(victim, len(content) // 2)
    with pytest.raises(image_sets.ImageSetError, match=f"{listed[3].name} has changed"):
        list(image_sets.read_files(folder, listed))
    victim.write_bytes(content + b"x")
    with pytest.raises(image_sets.ImageSetError, match=f"{listed[3].name} has changed"):
        list(image_sets.read_files(folder, listed))
    victim.unlink()
    with pytest.raises(image_sets.ImageSetError, match=f"{listed[3].name} is gone"):
        list(image_sets.read_files(folder, listed))


@given(st.integers(1, 60), st.integers(0, 500))
def test_parts_are_a_partition_in_order_of_nearly_equal_sizes(count, more):
    images = count + more
    rows = [image_sets.part_rows(part, images) for part in image_sets.part_names(count)]
    assert [row for part in rows for row in part] == list(range(images))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1
    assert all(re.fullmatch(image_sets.PART_PATTERN, part) for part in image_sets.part_names(count))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("000-of-011", "10 images cannot be cut into 11 parts; set scores.reference.shards to 10"),
        ("002-of-002", "the first of 2 parts is 000"),
        ("0-of-2", "expected a name such as"),
    ],
)
def test_parts_that_cannot_be_are_refused(part, message):
    with pytest.raises(ValueError, match=message):
        image_sets.part_rows(part, 10)


KNOWN = image_sets.known_sets("mine", ["coco2014/val2014.zip", "coco2014/val2014.npz"])


def test_a_set_is_a_data_set_an_input_or_a_path(tmp_path, folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()  # a data set's name comes first
    archive = as_tar(folder, tmp_path / "mine.tar")
    (tmp_path / "other").mkdir()
    shutil.copytree(folder, tmp_path / "other" / folder.name)
    found = {
        name: image_sets.find_set(name, KNOWN)
        for name in (
            "pictures", "mine", "coco2014/val2014.zip", "my pictures", "other/my pictures/",
            "mine.tar", str(archive), "coco2014/val2014.npz", "coco2014", "", "\0",
            5000 * "x", "my pictures/b/x",
        )
    }  # fmt: skip
    paths = {name: str(one.path) for name, one in found.items() if one is not None}
    assert paths == {
        "pictures": "resources/pictures/images.tar",
        "mine": "resources/mine/images.tar",
        "coco2014/val2014.zip": "resources/coco2014/val2014.zip",
        "my pictures": "my pictures",
        "other/my pictures/": "other/my pictures",
        "mine.tar": "mine.tar",
        str(archive): str(archive),
    }
    labels = [one.label for one in found.values() if one is not None]
    assert labels[:3] == ["pictures", "mine", "coco2014-val2014.zip"]
    assert labels[3].startswith("my-pictures-")
    assert len(set(labels)) == len(labels)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", label) for label in labels)


def test_a_change_deep_in_a_folder_is_seen(folder):
    before = image_sets.folder_state(folder)
    assert image_sets.folder_state(folder) == before
    assert image_sets.folder_state(folder / "UPPER.PNG") is None
    victim = next((folder / "a/deep").iterdir())
    os.utime(victim, ns=(1, 1))
    changed = image_sets.folder_state(folder)
    victim.rename(victim.with_name("other.png"))
    assert len({before, changed, image_sets.folder_state(folder)}) == 3
