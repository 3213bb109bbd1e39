"""Mistakes in the section `training` that its schema cannot find."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2i.base.datasets import VALIDATION_SET
from t2i.base.yaml import Config
from t2i.config.explain import _nearest
from t2i.fetch.needed import SD2
from t2i.micro.pictures import COUNT, scenes
from t2i.training.settings import metadata_parts

DRAWN = "pictures"


def training_mistakes(config: Config, sources: dict[str, Any]) -> Iterator[str]:
    """A line for each mistake: key path, what was found, what is allowed."""
    training = config.get("training")
    if config.get("dataset") == VALIDATION_SET and not training:
        yield f"  dataset: {VALIDATION_SET} evaluates a training; take coco2014, or give `training`"
    if not training or not all(training.get(key) for key in ("data", "frozen")):
        return
    yield from _data(training["data"])
    if training.get("runs", 1) > 1 and not config.get("submission"):
        yield "  training.runs: a package of several trainings needs the section `submission`"
    yield from _frozen(training["frozen"], sources)
    if training.get("precision") == "fp16" and config.get("device") == "cpu":
        yield "  training.precision: got 'fp16' with device: cpu; take fp32 or bf16 there"
    if training.get("precision") == "fp16" and training.get("parallel") == "fsdp":
        # Each process would find other overflows in its part, and scale otherwise.
        yield "  training.precision: got 'fp16' with parallel: fsdp; take bf16, or parallel: ddp"


def _data(data: dict[str, Any]) -> Iterator[str]:
    folder, tars, published = data.get("folder"), data.get("tars", 0), data.get("published")
    metadata = data.get("metadata")
    if data.get("name") == DRAWN:
        if folder or published or metadata or data.get("kind") != "images":
            yield (
                "  training.data: `pictures` is drawn: kind has to be images, without `folder`, "
                "`published` or `metadata`"
            )
        drawn, known = tars * data.get("images", 0), len(scenes()) - COUNT
        if drawn > known:
            yield f"  training.data: {drawn} pictures (tars x images); at most {known} can be drawn"
    elif sum(map(bool, (folder, published, metadata))) > 1:
        yield "  training.data: give one of `folder`, `published` and `metadata`"
    elif metadata:
        yield from _metadata(metadata, tars, data.get("kind"))
    elif folder:
        names = [f"{number:05d}.tar" for number in range(tars)]
        missing = [name for name in names if not Path(folder, name).is_file()]
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            yield f"  training.data.folder: {folder} has no {missing[0]}{more} of {tars}"
    elif not published:
        yield (
            f"  training.data.folder: {data.get('name')!r} is not drawn; give `folder`, or "
            "`published` or `metadata` to fetch it"
        )


def _metadata(metadata: dict[str, Any], tars: int, kind: str | None) -> Iterator[str]:
    if kind != "images":
        yield "  training.data.kind: what `metadata` brings are images"
    for number in range(-(-tars // metadata.get("pieces", 1))):
        found = metadata_parts(metadata["folder"], number)
        if len(found) != 1:
            yield (
                f"  training.data.metadata.folder: {metadata['folder']} has {len(found)} files "
                f"part-{number:05d}*.parquet; expected one"
            )
            return


def _frozen(frozen: dict[str, Any], sources: dict[str, Any]) -> Iterator[str]:
    model = frozen.get("model")
    if model is None or model == SD2:
        return
    folders = ("vae", frozen.get("text_encoder"), frozen.get("tokenizer"))
    if model not in sources:
        known = [SD2, *(name for name, group in sources.items() if _has(group, "vae"))]
        known = list(dict.fromkeys(known))
        hint = _nearest(model, known)
        yield f"  training.frozen.model: got {model!r}; known are {', '.join(known)}{hint}"
        return
    lacking = [str(folder) for folder in folders if not _has(sources[model], folder)]
    if lacking:
        yield f"  training.frozen: {model} has no files in {', '.join(lacking)}"


def _has(group: dict[str, Any], folder: str | None) -> bool:
    return any(name.startswith(f"{folder}/") for name in group["files"])
