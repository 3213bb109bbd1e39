"""Tokenise all captions and the negative prompt with both tokenizers."""

from pathlib import Path

from t2i.base.files import write_json
from t2i.job.job import job
from t2i.prompts.captions import read_captions
from t2i.prompts.tokenizer import tokenize
from t2i.prompts.tokens import PromptTokens, write_tokens

with job(snakemake):
    captions = read_captions(Path(snakemake.input.captions))
    folders = sorted({Path(path).parent for path in snakemake.input.tokenizer})
    prompts = tokenize([row.caption for row in captions], *folders)
    negative = tokenize([snakemake.params.negative_prompt], *folders)
    write_tokens(
        Path(snakemake.output.tokens),
        PromptTokens(prompts.first, prompts.second, negative.first[0], negative.second[0]),
    )
    truncated = [
        {"index": index, "caption_id": captions[index].id, "tokens": length}
        for index, length in prompts.truncated
    ]
    report = {
        "prompts": len(captions),
        "truncated": truncated,
        "negative_prompt_truncated": bool(negative.truncated),
    }
    write_json(Path(snakemake.output.truncated), report)
    print(f"{len(captions)} prompts, {len(truncated)} truncated: {truncated}")
