"""LAION in miniature: metadata, images on a loopback server, a stand-in for img2dataset."""

from __future__ import annotations

import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

# What the rule asks of img2dataset, by plain code. Samples come in another order than the rows.
STAND_IN = """\
#!{python}
import ast, io, json, sys, tarfile, urllib.request
import pyarrow.parquet as pq
from PIL import Image

options = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
assert options["resize_mode"] == "no" and options["output_format"] == "webdataset"
rows = pq.read_table(options["url_list"]).to_pylist()
assert len(rows) <= int(options["number_sample_per_shard"])
statuses = {{}}
with tarfile.open(options["output_folder"] + "/00000.tar", "w") as archive:
    for number, row in reversed(list(enumerate(rows))):
        try:
            content = urllib.request.urlopen(row[options["url_col"]], timeout=10).read()
            image = io.BytesIO()
            Image.open(io.BytesIO(content)).convert("RGB").save(image, "JPEG", quality=95)
        except OSError as error:
            statuses[str(error)] = statuses.get(str(error), 0) + 1
            continue
        statuses["success"] = statuses.get("success", 0) + 1
        key = f"00000{{number:04d}}"
        names = ast.literal_eval(options["save_additional_columns"])
        facts = {{"key": key, **{{name: row[name] for name in names}}}}
        caption = row[options["caption_col"]].encode()
        for suffix, data in (
            ("jpg", image.getvalue()), ("json", json.dumps(facts).encode()), ("txt", caption)
        ):
            member = tarfile.TarInfo(f"{{key}}.{{suffix}}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
counts = {{"count": len(rows), "successes": statuses.get("success", 0), "status_dict": statuses}}
with open(options["output_folder"] + "/00000_stats.json", "w") as handle:
    json.dump(counts, handle)
"""


def install_stand_in(folder: Path, text: str = STAND_IN) -> Path:
    """A folder with a program img2dataset."""
    folder.mkdir(parents=True)
    program = folder / "img2dataset"
    program.write_text(text.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def metadata_row(number: int, address: str, licence: str | None) -> dict[str, Any]:
    """A row of LAION's metadata."""
    return {
        "SAMPLE_ID": number,
        "URL": address,
        "TEXT": f"caption {number}",
        "HEIGHT": 24,
        "WIDTH": 32 + number,
        "LICENSE": licence,
        "NSFW": "UNLIKELY",
        "similarity": 0.3 + number / 1000,
    }


def write_part(folder: Path, number: int, rows: list[dict[str, Any]]) -> Path:
    """A part of metadata under its published kind of name, in groups of 100 rows."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{number:05d}-5b54c5d5-bbcf-484d-a2ce-0d6f73df1a36-c000.snappy.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100)
    return path


@contextmanager
def served_images(folder: Path, count: int) -> Iterator[str]:
    """Images 0.png to count-1.png, each (24, 32 + number), at an address that is given."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = Image.effect_noise((32 + number, 24), 60).convert("RGB")
        image.save(folder / f"{number}.png")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
