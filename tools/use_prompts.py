"""Make a data set of prompts of your own: tools/use_prompts.py PROMPTS.txt FOLDER

PROMPTS.txt has one prompt a line. FOLDER gets the captions, a latent, the table of inputs with this
data set in it, and a configuration to put on top of another one; its name is the data set's.
"""

import argparse
import json
import re
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import numpy as np

from t2i.base.files import file_table, publish_folder, write_text
from t2i.base.yaml import read_yaml
from t2i.engine.latents import draw_latent
from t2i.prompts.captions import format_captions
from t2i.prompts.own import own_captions, read_prompts, shown_ids

TABLE = Path(__file__).resolve().parents[1] / "config/sources.yaml"

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("prompts", type=Path)
parser.add_argument("folder", type=Path, help="a new folder; its name in lower case")
options = parser.parse_args()
folder = options.folder.resolve()
table = read_yaml(TABLE)
if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", folder.name) or folder.name in {*table, "pictures"}:
    sys.exit(f"{folder.name}: no name for a data set; take lower-case letters, digits and hyphens")
if folder.exists():
    sys.exit(f"{options.folder} exists; take another name, or remove it")
try:
    prompts = read_prompts(options.prompts)
except (OSError, ValueError) as error:
    sys.exit(str(error))
with publish_folder(folder) as part:
    files = part / "files"
    files.mkdir()
    write_text(files / "captions_source.tsv", format_captions(own_captions(prompts)))
    write_text(files / "sample_ids.txt", "".join(f"{n}\n" for n in shown_ids(len(prompts))))
    np.save(files / "latents.npy", draw_latent(), allow_pickle=False)
    table[folder.name] = {
        "licence": "prompts of your own",
        "address": f"file:{folder}/files/{{path}}",
        "files": file_table(files),
    }
    (part / "sources.json").write_text(json.dumps(table, indent=1))
    config = {
        "run": folder.name,
        "dataset": folder.name,
        "sources": f"{folder}/sources.json",
        "samples": len(prompts),
        "shard_size": min(250, len(prompts)),
        "windows": None,  # they belong to other captions
        "loadgen": None,
        "submission": None,
    }
    (part / "config.json").write_text(json.dumps(config, indent=1))
mine = shlex.quote(f"{options.folder}/config.json")
print(f"{len(prompts)} prompts. To generate and score them:")
print(f"snakemake --cores all --configfile config/config.yaml {mine}")
print(f"snakemake --cores all --configfile config/mlperf.yaml {mine}")
