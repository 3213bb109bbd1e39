"""config/README.md, made from the schema of the configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

INTRODUCTION = """\
# Configuration

A configuration says what is measured: model, data set, samples, variants, scores. On what machine
(cores, GPUs, partitions) is a matter of profiles.

| File | What it is |
|---|---|
| `config.yaml` | the embedded default: no GPU, no downloads; used when no other file is named |
| `quality.yaml` | a study of the embedded default: what the verdict catches, and what it cannot |
| `faults.py` | mistakes on purpose that `quality.yaml` puts into the pipeline |
| `mlperf.yaml` | the official run |
| `rehearsal.yaml` | a whole submission rehearsed with a stand-in, without GPU and weights |
| `sources.yaml` | every input with its address, size, digest and licence |
| `schemas/config.schema.yaml` | what a configuration may hold; the table below is made from it |

## A configuration of your own

Copy the file that is nearest to what you want, give it another `run`, and name it:

```sh
cp config/mlperf.yaml config/mine.yaml
snakemake --cores all --configfile config/mine.yaml
```

- A file named with `--configfile` takes the place of `config.yaml`; nothing of the embedded default
  is left in it. What a file does not say has the default of the table below.
- Several files are merged, `--configfile config/mlperf.yaml changes.yaml`: keys within keys are
  joined, and where both files say something the later one wins. A list is replaced as a whole. A
  key with the value `null` counts as absent, so a later file can take back what an earlier one says
  (`windows: null`, or one variant by its name).
- `--config samples=500` on the command line comes last.
- All mistakes are told at once, with key, value and what is allowed, before the first job starts.
  A key that stands twice in one file is a mistake too.

Add `--dry-run` to a command to see what it would do. More samples, a
larger list of variants or other windows keep all finished images; whatever a pixel depends on makes
the images of that variant anew.

## A variant

One more entry below `variants`, under a name of your choice. The first entry is the baseline that
the others are compared with.

```yaml
variants:
  fp32: {dtype: fp32}
  bf16-wide: {dtype: bf16, batch_size: 16}
  short: {dtype: bf16, steps: 8, guidance: 5.0}
  mine: {dtype: bf16, patch: my_patch.py:apply}
```

`steps` and `guidance` are what `sampler` says unless the variant says otherwise for itself. Other
values than the benchmark's belong to the open division.

`patch` names a function of your own that receives the loaded diffusers pipeline and returns it.
It may change whatever modules it likes. The file is part of the variant, so an edit of it makes the
images anew. Patched variants belong to the open division. `faults.py` has examples.

`stand_in` takes the place of the model: pictures that are made from the sample index alone, at a
fixed pace in LoadGen's runs, to rehearse everything else on any machine.

## LoadGen and a submission

`loadgen` says which of MLPerf's scenarios and modes are run, `submission` who submits what.
[`docs/loadgen.md`](../docs/loadgen.md) tells what they do. Without them nothing of it is run.

```yaml
loadgen:
  scenarios: [Offline, SingleStream]
  modes: [performance, accuracy, TEST01, TEST04]
submission:
  submitter: your-organisation
  system: your-system
  description:
    cooling: air
    host_memory_configuration: 24x 64 GB DDR5
    host_networking: Ethernet
    host_networking_topology: N/A
inference_checkout: fetch
```

## Windows

`windows` says between which bounds FID and CLIP have to lie, and for how many samples that holds.
Give windows of your own a `label`, so that everybody sees whose they are. Where reference images
of some samples are at hand, `images` and `image_difference` ask for more: that every one of them is
met pixel by pixel, as closely as the variant's number format allows.

```yaml
windows:
  label: windows of our own, from ten runs at fp32
  samples: 500
  fid: [40.5, 42.5]
  clip: [30.9, 31.1]
  images: my_references
  image_difference: {fp32: 0.1, fp16: 1.0, bf16: 1.0}
```

## A data set

One more group in `sources.yaml` (or in a copy of it, named in `sources`), whose name is the value
of `dataset`, with three files:

- `captions_source.tsv`: tab separated, with the columns id, image_id, caption, height, width,
  file_name and coco_url; the row, counted from 0, is the sample index;
- `latents.npy`: the noise that every sample starts from, (1, 4, 128, 128) float32;
- `sample_ids.txt`: the ten sample indices whose images a submission shows, one in each line.

```yaml
my-captions:
  licence: CC BY 4.0
  address: https://example.org/data/{path}
  files:
    captions_source.tsv: {size: 1234, sha256: "..."}
    latents.npy: {sha256: "..."}
    sample_ids.txt: {sha256: "..."}
```

`{path}` stands for the file's name, or its `path` where it has one. A digest is `sha256`, `md5` or
`git_blob` (git's object id). A file of this machine has an address such as
`file:/data/captions.tsv`. Reference statistics of FID for the data set are one more file, an npz
with `mu` and `sigma`; `scores.reference.statistics` names it as `GROUP/FILE.npz`.

## A model

One more group whose name is the value of `model`, with the files of a diffusers folder of Stable
Diffusion XL's structure: `model_index.json`, `scheduler/scheduler_config.json`, `config.json` and
the safetensors of both text encoders, UNet and VAE. Weights called `*.fp16.safetensors` are
taken by variants of dtype fp16, the others by every other variant. Pickled weights are not read.
The tokenizers are SDXL's, which the workflow rebuilds itself, unless the group has its own: where
it names `tokenizer/vocab.json` or `tokenizer_2/vocab.json`, all files of that folder come from the
group (`vocab.json`, `merges.txt`, `tokenizer_config.json`, `special_tokens_map.json`).

`micro-sdxl` and `micro-clip` are such groups, of files that lie in `models/`. After a change there
`tools/pin_models.py` writes their sizes and digests anew.

## Machines without a network

Put the inputs below one folder, under the names that they have below `resources/` (which are those
of `sources.yaml`), and name it as `mirror`. With `offline: true` nothing else is asked.
`snakemake --cores 1 fetch` brings only the inputs, on a machine that has a network.

## Every key
"""

TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "object": "keys",
    "array": "list",
    "null": "null",
}


def markdown(schema: dict[str, Any]) -> str:
    """The whole document: how to write a configuration, and a table of every key."""
    lines = [
        INTRODUCTION,
        "Made from `schemas/config.schema.yaml` by `tools/write_config_readme.py`.",
        "",
        "| Key | Type | Allowed | Default | Meaning |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in _rows(schema, schema, "")),
    ]
    return "\n".join(lines) + "\n"


def _rows(schema: dict[str, Any], root: dict[str, Any], prefix: str) -> Iterator[list[str]]:
    """Path, type, allowed values, default and meaning of every key below a schema."""
    for key, entry in schema.get("properties", {}).items():
        facts = {**_referred(entry, root), **entry}
        path = f"{prefix}{key}"
        cells = [f"`{path}`", _type(facts), _allowed(facts)]
        cells += [_default(key, facts, schema), " ".join(facts["description"].split())]
        yield [cell.replace("|", "\\|") for cell in cells]
        yield from _rows(facts, root, f"{path}.")
        if isinstance(names := facts.get("additionalProperties"), dict):
            yield from _rows(names, root, f"{path}.NAME.")


def _referred(entry: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The definition that an entry refers to, if it does."""
    name = entry.get("$ref", "").removeprefix("#/$defs/")
    found: dict[str, Any] = root["$defs"][name] if name else {}
    return found


def _type(facts: dict[str, Any]) -> str:
    names = facts.get("type", "string")
    words = [TYPES[name] for name in ([names] if isinstance(names, str) else names)]
    if "maxItems" in facts:
        words = [f"list of {facts['minItems']} {TYPES[facts['items']['type']]}s"]
    return " or ".join(words)


def _allowed(facts: dict[str, Any]) -> str:
    if names := facts.get("enum", facts.get("items", {}).get("enum")):
        return ", ".join(f"`{value}`" for value in names)
    pattern = facts.get("pattern", facts.get("propertyNames", {}).get("pattern"))
    if pattern:
        return f"{'names like ' if 'propertyNames' in facts else ''}`{pattern}`"
    if "minimum" in facts and "maximum" in facts:
        return f"{facts['minimum']} to {facts['maximum']}"
    if "minimum" in facts:
        return f"{facts['minimum']} or more"
    if "exclusiveMinimum" in facts:
        return f"more than {facts['exclusiveMinimum']}"
    names = (f"`{option['required'][0]}`" for option in facts.get("oneOf", []))
    return " or ".join(names)


def _default(key: str, facts: dict[str, Any], parent: dict[str, Any]) -> str:
    if key in parent.get("required", []):
        return "required"
    if "default" not in facts or facts["default"] == {}:
        return ""
    value = facts["default"]
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
