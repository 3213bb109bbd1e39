"""Draw the graph of the rules that this run walks."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from t2i.files import write_text
from t2i.logs import job_log
from t2i.rulegraph import svg

with job_log(snakemake.log[0]), tempfile.TemporaryDirectory() as folder:
    config = Path(folder, "config.json")
    config.write_text(json.dumps(snakemake.params.config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", snakemake.params.snakefile]
    command += ["--configfile", str(config), "--rulegraph", "dot", "--forceall", "--nolock"]
    command += ["--scheduler", "greedy"]  # the default one needs a solver, which nothing here does
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    write_text(Path(snakemake.output[0]), svg(answer.stdout))
