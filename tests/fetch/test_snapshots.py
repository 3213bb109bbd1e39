"""A snapshot as MLCommons hosts it becomes a group of the table of inputs, or is refused."""

import http.server
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from t2i.base.yaml import read_yaml
from t2i.config import derive
from t2i.config.check import checked_config
from t2i.fetch.files import FetchError, fetch
from t2i.fetch.snapshots import Snapshot, SnapshotError, diffusers_files, md5_lines, table_entry
from t2i.fetch.table import read_sources

ROOT = Path(__file__).parents[2]
NAME = "metadata/stable-diffusion-xl-1-0-fp16-checkpoint"
NETWORKS = ("text_encoder", "text_encoder_2", "unet", "vae")
MODEL = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    *(f"{name}/config.json" for name in NETWORKS),
    "text_encoder/model.safetensors",
    "text_encoder_2/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
}
OTHERS = {
    "checkpoint_pipe/tokenizer/vocab.json": "the workflow rebuilds the tokenizers",
    "checkpoint_pipe/tokenizer_2/merges.txt": "the workflow rebuilds the tokenizers",
    "checkpoint_pipe/unet/diffusion_pytorch_model.bin": "pickled, which can run code",
    "checkpoint_pipe/vae_1_0/config.json": "not a part of the model that is run",
    "checkpoint_scheduler/README.md": "neither below checkpoint_pipe/ nor below",
}


def paths() -> set[str]:
    """Paths of a whole snapshot; the pipeline has a scheduler of its own, too."""
    return {f"checkpoint_pipe/{name}" for name in MODEL} | {
        "checkpoint_scheduler/scheduler/scheduler_config.json",
        *OTHERS,
    }


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; knows ranges, or nothing of a file's size, as the server says."""

    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self):
        """Answer one request."""
        path = Path(self.translate_path(self.path))
        self.server.asked.append((self.path, self.headers.get("Range")))
        if not path.is_file():
            self.send_error(404)
        elif self.server.sizes == "none":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(path.read_bytes())
            self.close_connection = True
        elif self.server.sizes == "ranges" and self.headers.get("Range") == "bytes=0-0":
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 0-0/{path.stat().st_size}")
            self.send_header("Content-Length", "1")
            self.end_headers()
            self.wfile.write(path.read_bytes()[:1])
        else:
            super().do_GET()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of a snapshot whose list md5sum has made."""
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "served"
    for path in paths():
        (folder / "fp16" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "fp16" / path).write_text(f"content of {path}\n")
    (folder / "metadata").mkdir()
    find = ["find", ".", "-type", "f", "-exec", "md5sum", "{}", "+"]
    done = subprocess.run(find, cwd=folder / "fp16", capture_output=True, check=True)
    (folder / f"{NAME}.md5").write_bytes(done.stdout)

    def handler(*arguments):
        return Handler(*arguments, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        running.sizes, running.asked, running.folder = "lengths", [], folder
        running.url = f"http://127.0.0.1:{running.server_port}"
        (folder / f"{NAME}.uri").write_text(f"{running.url}/fp16\n")
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join(10)


def pin(*words: str) -> subprocess.CompletedProcess:
    """Call the command."""
    script = str(ROOT / "tools/pin_snapshot.py")
    return subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("sizes", ["lengths", "ranges", "none"])
def test_printed_group_names_every_file_and_a_fetch_by_it_works(server, tmp_path, sizes):
    server.sizes = sizes
    done = pin(f"{server.url}/{NAME}.uri", "sdxl-mlc")
    assert done.returncode == 0, done.stderr
    (tmp_path / "more.yaml").write_text(done.stdout)
    sources = read_sources(read_yaml(tmp_path / "more.yaml"))
    assert set(sources) == {f"sdxl-mlc/{name}" for name in MODEL}
    for name, source in sources.items():
        destination = tmp_path / "resources" / name
        fetch(source, destination, None, False)
        path = source.address.removeprefix(f"{server.url}/fp16/")
        original = server.folder / "fp16" / path
        assert destination.read_bytes() == original.read_bytes()
        assert source.size == (None if sizes == "none" else original.stat().st_size)
        wanted = (
            "checkpoint_scheduler" if name.endswith("scheduler_config.json") else "checkpoint_pipe"
        )
        assert path == f"{wanted}/{name.removeprefix('sdxl-mlc/')}"
    asked = {path for path, range_ in server.asked if range_ == "bytes=0-0"}
    assert len(asked) == len(MODEL)


def test_file_that_has_changed_since_is_refused(server, tmp_path):
    (tmp_path / "more.yaml").write_text(pin(f"{server.url}/{NAME}.uri", "sdxl-mlc").stdout)
    sources = read_sources(read_yaml(tmp_path / "more.yaml"))
    unet = sources["sdxl-mlc/unet/diffusion_pytorch_model.safetensors"]
    path = server.folder / "fp16/checkpoint_pipe/unet/diffusion_pytorch_model.safetensors"
    path.write_text(path.read_text().replace("content", "CONTENT"))
    with pytest.raises(FetchError, match=f"expected md5 {unet.digest}"):
        fetch(unet, tmp_path / "unet", None, False)


def test_what_is_left_out_is_said(server):
    printed = pin(f"{server.url}/{NAME}.uri", "sdxl-mlc").stdout
    comments = [line for line in printed.splitlines() if line.startswith("#")]
    for path, why in OTHERS.items():
        assert any(line.startswith(f"# left out: {path}: {why}") for line in comments), path
    assert len(comments) == len(OTHERS) + 1
    assert (
        "# left out: checkpoint_pipe/scheduler/scheduler_config.json: "
        "checkpoint_scheduler/scheduler/scheduler_config.json is used instead"
    ) in comments


def test_printed_group_is_a_model_of_a_configuration(server, tmp_path):
    (tmp_path / "more.yaml").write_text(pin(f"{server.url}/{NAME}.uri", "sdxl-mlc").stdout)
    table = {**read_yaml(ROOT / "config/sources.yaml"), **read_yaml(tmp_path / "more.yaml")}
    config = {**read_yaml(ROOT / "config/config.yaml"), "model": "sdxl-mlc"}
    schema = read_yaml(ROOT / "config/schemas/config.schema.yaml")
    needed = derive.needed_sources(checked_config(config, schema, table), read_sources(table))
    assert {name for name in needed if not name.startswith("micro-clip/")} == {
        f"sdxl-mlc/{name}" for name in MODEL
    }


def test_file_that_is_listed_but_not_there_is_named(server):
    (server.folder / "fp16/checkpoint_pipe/vae/config.json").unlink()
    done = pin(f"{server.url}/{NAME}.uri", "sdxl-mlc")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"{server.url}/fp16/checkpoint_pipe/vae/config.json: it answers 404\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("http://a.example/fp16", "http://a.example/fp16: not an https address"),
        ("file:/etc", "not an https address"),
        ("https://a.example/x https://b.example/y", "expected one address in it"),
        ("", "got no bytes"),
        ("https://a.example/{path}", "expected one address in it"),
    ],
)
def test_uri_file_must_hold_one_address_that_can_be_trusted(server, content, words):
    (server.folder / f"{NAME}.uri").write_text(content)
    done = pin(f"{server.url}/{NAME}.uri", "sdxl-mlc")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://a.example/x.uri", "not an https address"),
        ("https://a.example/x.yaml", "expected an address that ends with .uri"),
    ],
)
def test_address_must_be_a_uri_file_over_tls(address, words):
    done = pin(address, "sdxl-mlc")
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr


def test_help_says_what_it_does():
    done = pin("--help")
    assert done.returncode == 0
    assert "config/sources.yaml" in done.stdout


MD5 = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "./../x",
        "a/../x",
        "/x",
        "a//x",
        "a/./x",
        "..",
        "a b",
        "a%2e",
        "a\\b",
        "a/",
        "é",
        "{path}",
    ],
)
def test_paths_that_could_lead_elsewhere_are_refused(path):
    with pytest.raises(SnapshotError, match="line 2: .*refused"):
        md5_lines(f"{MD5}  ./good\n{MD5}  {path}\n")


@pytest.mark.parametrize("line", ["x", MD5, f"{MD5[:-1]}  x", f"{MD5} x", f"\\{MD5}  x", "<html>"])
def test_lines_that_are_not_md5sums_are_refused(line):
    with pytest.raises(SnapshotError, match="line 1: expected an md5 and a path"):
        md5_lines(f"{line}\n")


def test_lines_of_either_mode_are_read_and_a_second_digest_is_refused():
    assert md5_lines(f"{MD5}  ./a/b\n\n{MD5} *c\r\n") == {"a/b": MD5, "c": MD5}
    with pytest.raises(SnapshotError, match="line 2: duplicate path 'a'"):
        md5_lines(f"{MD5}  a\n{MD5[::-1]}  ./a\n")


def test_what_is_missing_is_told_together():
    digests = dict.fromkeys(paths(), MD5)
    for name in ("model_index.json", "vae/config.json", "unet/diffusion_pytorch_model.safetensors"):
        del digests[f"checkpoint_pipe/{name}"]
    with pytest.raises(SnapshotError) as caught:
        diffusers_files(digests)
    lines = str(caught.value).splitlines()
    assert [line for line in lines if line.startswith("  missing: ")] == [
        "  missing: model_index.json",
        "  missing: unet/*.safetensors",
        "  missing: vae/config.json",
    ]
    assert any("diffusion_pytorch_model.bin: pickled" in line for line in lines)


def test_digests_and_names_that_look_like_numbers_stay_text(tmp_path):
    digest = "1" * 32
    files = {"unet/config.json": ("checkpoint_pipe/unet/config.json", digest)}
    snapshot = Snapshot("https://a.example/x", files, [])
    text = table_entry("1e5", "Licence: one, # two", snapshot, {"unet/config.json": None})
    (tmp_path / "x.yaml").write_text(text)
    (source,) = read_sources(read_yaml(tmp_path / "x.yaml")).values()
    assert (source.digest, source.licence) == (digest, "Licence: one, # two")
    assert source.address == "https://a.example/x/checkpoint_pipe/unet/config.json"


@pytest.mark.parametrize("group", ["micro-sdxl", "SDXL", "", "../x", "-x"])
def test_group_must_be_a_models_name(group):
    with pytest.raises(SnapshotError, match="cannot be a model's name"):
        table_entry(group, "CC0", Snapshot("https://a.example", {}, []), {})
