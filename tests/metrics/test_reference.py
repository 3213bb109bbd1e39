"""Reference statistics from sets of images: pytorch-fid's for any cut and archive."""

import t2i.job.torch_shim  # noqa: F401

import copy
import io
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pytorch_fid import fid_score
from torch import nn

from fake_job import Named, fake_job, run_script
from t2i.fetch import image_sets
from t2i.job import device
from t2i.metrics import fid, inception, reference
from workflow_run import Workplace, copy_project, of_rule

SCRIPTS = Path(__file__).parents[2] / "scripts"
IMAGES = 2115  # of 2048 features; batches of 45 leave pytorch-fid no short last one
BATCH = 45
STATISTICS = 1e-9  # of the largest value of the mean and of the covariance


def picture(number: int, size: tuple[int, int]) -> Image.Image:
    """A small picture of noise, in one of the modes that files have."""
    width, height = size
    values = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(("RGB", "L", "P", "RGBA")[number % 4])


def write_pictures(folder: Path, sizes: Sequence[tuple[int, int]]) -> None:
    """Files of several formats; those that cannot hold a picture's mode hold it in RGB."""
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes):
        ending = ("png", "jpg", "webp", "bmp")[number // 4 % 4]
        image = picture(number, size)
        if ending in ("jpg", "webp"):
            image = image.convert("RGB")
        image.save(folder / f"{number * 7919 % len(sizes):06d}.{ending}")


@pytest.fixture
def run(tmp_path, monkeypatch, one_thread):
    """A function that runs a rule's script in this process as Snakemake would."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    # A job hides the GPUs that are not its own; these tests go on in the same process.
    monkeypatch.setattr(device, "use_device", lambda device, _: nullcontext(device))

    def run(script: str, output: Path, device: str = "cpu", batch_size: int = 1, **facts) -> Path:
        job = fake_job(
            Named(**facts.pop("input")),
            Named(str(output)),
            tmp_path / "log" / f"{script}.log",
            Named(device=device, threads=1, batch_size=batch_size),
            wildcards=SimpleNamespace(**facts),
            threads=2,
        )
        run_script(script, job)
        return output

    return run


@pytest.fixture
def statistics(tmp_path, run) -> Callable[..., fid.Moments]:
    """A function that walks the three rules for a set of images, cut into parts."""

    def statistics(images: Path, weights: Path, count: int, **settings) -> fid.Moments:
        folder = tmp_path / f"parts-{count}"
        listed = run("list_reference_images", folder / "images.json", input={"images": images})
        features = [
            run(
                "extract_reference_features",
                folder / f"{part}.npz",
                input={"images": images, "listed": listed, "inception": [weights]},
                part=part,
                **settings,
            )
            for part in image_sets.part_names(count)
        ]
        output = run(
            "compute_reference_statistics",
            folder / "statistics.npz",
            input={"listed": listed, "features": features[::-1]},
        )
        return fid.read_moments(output)

    return statistics


def largest_difference(ours: fid.Moments, peer: tuple[np.ndarray, np.ndarray]) -> float:
    """Largest difference of mean and covariance, each relative to its largest value."""
    differences = [
        float(np.abs(mine - theirs).max() / np.abs(theirs).max())
        for mine, theirs in zip((ours.mean, ours.covariance), peer, strict=True)
    ]
    print(f"relative differences of mean and covariance: {differences}")
    return max(differences)


@pytest.fixture
def cheap(peer_inception, monkeypatch) -> nn.Module:
    """pytorch-fid's own module with one quick layer in place of its blocks, for both sides."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.MaxPool2d(1, stride=23), nn.Conv2d(3, inception.FEATURES, 13))
    layer.requires_grad_(False)
    monkeypatch.setattr(inception, "load_inception", lambda *_: nn.Sequential(*layer, nn.Flatten()))
    peer = copy.copy(peer_inception)
    peer._modules = {"blocks": nn.ModuleList([layer])}
    peer.output_blocks, peer.last_needed_block = [0], 0
    return peer


@pytest.mark.slow
def test_statistics_in_parts_are_those_of_pytorch_fid(tmp_path, cheap, statistics):
    folder = tmp_path / "set"
    write_pictures(folder, IMAGES * [(8, 8)])
    expected = fid_score.compute_statistics_of_path(
        str(folder), cheap, BATCH, inception.FEATURES, "cpu", num_workers=0
    )
    found = [statistics(folder, Path("none"), count, batch_size=BATCH) for count in (1, 3, 7)]
    for moments in found:
        assert moments.count == IMAGES
        assert largest_difference(moments, expected) <= STATISTICS
        assert np.array_equal(moments.mean, found[0].mean)
        assert np.array_equal(moments.covariance, found[0].covariance)


@pytest.fixture
def network_difference(tmp_path, peer_inception, micro_inception, statistics):
    """Largest difference of the real network's statistics from pytorch-fid's, for some cuts."""

    def difference(device: str, images: int, batch_size: int, counts: Sequence[int]) -> float:
        folder = tmp_path / "set"
        write_pictures(folder, images * [(64, 48)])
        peer = copy.deepcopy(peer_inception).to(device)
        expected = fid_score.compute_statistics_of_path(
            str(folder), peer, batch_size, inception.FEATURES, device, num_workers=0
        )
        settings = {"device": device, "batch_size": batch_size}
        return max(
            largest_difference(statistics(folder, micro_inception, count, **settings), expected)
            for count in counts
        )

    return difference


def test_statistics_of_the_real_network(network_difference):
    assert network_difference("cpu", images=8, batch_size=4, counts=[2]) <= STATISTICS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_statistics_of_2100_images_on_a_gpu(network_difference, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert network_difference("cuda", images=2100, batch_size=50, counts=[1, 3, 7]) <= STATISTICS


def test_images_of_unequal_sizes(tmp_path, cheap, statistics):
    """pytorch-fid takes them one at a time; ours share batches, which here are of one as well."""
    folder = tmp_path / "set"
    write_pictures(folder, [(5 + 3 * n % 31, 4 + 7 * n % 29) for n in range(32)])
    expected = fid_score.compute_statistics_of_path(
        str(folder), cheap, 1, inception.FEATURES, "cpu", num_workers=0
    )
    assert largest_difference(statistics(folder, Path("none"), 5), expected) <= STATISTICS


def test_features_depend_on_neither_neighbours_nor_their_sizes(cheap):
    """A row of a batch of unequal images is that of the image in a batch of its own."""
    network = inception.load_inception(Path("none"), "cpu")
    sizes = [(64, 64), (40, 90), (310, 20)]
    images = [np.asarray(picture(4 * n, size)) for n, size in enumerate(sizes)]
    together = inception.image_features(network, images, 3)
    for image, row in zip(images, together, strict=True):
        assert np.array_equal(inception.image_features(network, [image], 3)[0], row)


def encoded(kind: str) -> bytes:
    """The file of a small picture."""
    buffer = io.BytesIO()
    picture(0, (4, 4)).save(buffer, kind)
    return buffer.getvalue()


def test_a_broken_image_is_named(monkeypatch):
    whole = encoded("PNG")
    assert np.array_equal(reference.decode_image("x", whole), picture(0, (4, 4)))
    for data in (whole[:60], encoded("JPEG")[:-30], b"", b"no image", encoded("GIF")):
        with pytest.raises(ValueError, match="sub/x.png: not an image that can be"):
            reference.decode_image("sub/x.png", data)
    monkeypatch.setattr(reference, "MAX_PIXELS", 15)
    with pytest.raises(ValueError, match=r"x.png: .*4x4 pixels are more than 15"):
        reference.decode_image("x.png", whole)


@pytest.mark.parametrize(("dtype", "mode"), [("uint16", "I;16"), ("int32", "I"), ("float32", "F")])
def test_more_than_eight_bits_are_refused(dtype, mode):
    """Pillow would cut them off, to white or black."""
    image = Image.fromarray(np.linspace(0, 60000, 16).reshape(4, 4).astype(dtype))
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    with pytest.raises(ValueError, match=f"x.tif: .*mode {mode} has more than 8 bits"):
        reference.decode_image("x.tif", buffer.getvalue())


def test_few_images_are_in_memory_at_a_time():
    taken = []

    def files():
        for number in range(50):
            taken.append(number)
            yield str(number), encoded("PNG")

    for number, _ in enumerate(reference.decoded(files(), ahead=4, threads=2)):
        assert len(taken) <= number + 5
    assert number == 49


LISTED = [image_sets.Listed(f"{n}.png", 3, f"{n:064x}") for n in range(6)]


def some_part(*rows: int, **changes) -> reference.Part:
    """Features of rows of `LISTED`."""
    values = np.random.default_rng(0).standard_normal((len(LISTED), 4)).astype(np.float32)
    digests = np.asarray([LISTED[row % len(LISTED)].sha256 for row in rows])
    index = np.asarray(rows, dtype=np.int64)
    facts = {"index": index, "inception": values[index % len(LISTED)], "sha256": digests}
    return reference.Part(**{**facts, **changes})


@given(st.permutations(range(6)), st.sets(st.integers(1, 5)))
def test_gathering_depends_on_neither_order_nor_cut(order, places):
    cuts = np.split(np.asarray(order), sorted(places))
    rows = reference.gather((some_part(*cut.tolist()) for cut in cuts), LISTED)
    assert np.array_equal(rows, some_part(*range(6)).inception)
    assert rows.dtype == np.float64


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([some_part(0, 1, 2), some_part(4, 5)], "1 missing: 3"),
        ([some_part(0, 1, 2, 3), some_part(3, 4, 5)], "1 more than once: 3"),
        ([some_part(*range(7))], "1 beyond: 6"),
        ([some_part(*range(6), sha256=np.asarray(6 * ["0" * 64]))], "features of 1.png, 2.png"),
        ([some_part(*range(6), inception=np.full((6, 4), np.nan, np.float32))], "not finite"),
    ],
)
def test_features_that_are_not_those_of_the_list_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        reference.gather(parts, LISTED)


def test_damaged_features_are_named_and_whole_ones_come_back(tmp_path):
    path = tmp_path / "part.npz"
    # So long that numpy leaves a piece unread, and its checksum with it, where a header says less.
    features = np.random.default_rng(1).standard_normal((2, 4000)).astype(np.float32)
    part = some_part(1, 2, inception=features)
    reference.write_part(path, part)
    again = reference.read_part(path)
    for name, values in vars(part).items():
        assert np.array_equal(getattr(again, name), values)
    content = path.read_bytes()
    for damaged in (
        b"",
        content[:-1],
        content[:200],
        content.replace(b"'shape': (2, 4000)", b"'shape': (1, 4000)"),
        content.replace(b"'<f4'", b"'<f2'"),
        content.replace(part.inception.tobytes(), part.inception[::-1].tobytes()),
    ):
        assert damaged != content
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"part.npz: damaged .* delete it"):
            reference.read_part(path)


def test_jobs_that_need_no_network_do_not_wait_for_one(tmp_path):
    """The list and the reduction import no torch, which takes seconds to start."""
    modules = "t2i.fetch.image_sets, t2i.metrics.reference, t2i.metrics.fid"
    program = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=SCRIPTS, check=True)


@pytest.mark.slow
def test_a_folder_of_ones_own_is_listed_cut_and_reduced(tmp_path):
    folder = tmp_path / "my pictures"
    folder.mkdir()
    place = Workplace(copy_project(tmp_path / "project"))
    scores = {"reference": {"images": str(folder), "shards": 3}}
    jobs = place.plan(overlay={"scores": scores})
    label = image_sets.find_set(str(folder), ()).label
    assert of_rule(jobs, "list_reference_images") == {label}
    assert of_rule(jobs, "extract_reference_features") == {
        f"{label} micro-inception {part}" for part in ("000-of-003", "001-of-003", "002-of-003")
    }
    assert of_rule(jobs, "compute_reference_statistics") == {f"{label} micro-inception"}
