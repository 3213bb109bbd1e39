"""What happens at the start and the end of a run.

CONSUMES results/, resources/, Snakemake's lock
PRODUCES nothing
"""

import os
import shlex

from snakemake.logging import logger

from t2i.generate import damage
from t2i.job import failures, lock, orphans, parent, records
from t2i.job.dates import from_the_future
from t2i.submission import edited

COMMAND = shlex.join(["snakemake", *sys.argv[1:]])
ROOTS = Path("resources"), Path("results", RUN)
MIRROR_COMMAND = shlex.join(
    ["snakemake", "mirror", "--cores", "4"]
    + ["--configfile", *map(os.path.relpath, workflow.configfiles)]
    + ["--config", "offline=false"]
)


def check_disk():
    """Say what this run will write at most; refuse what cannot work before the first job."""
    from t2i.config import forecast
    from t2i.job.disk import DiskFullError

    if workflow.touch:
        return
    jobs = [
        forecast.planned_job(
            job.rule.name, dict(job.wildcards.items()), job.output, SOURCES
        )
        for job in workflow.dag.needrun_jobs()
        if job.output
    ]
    if not jobs:
        return
    try:
        forecast.check_weights(jobs, Path("results", RUN))
        print(forecast.checked_forecast(jobs, CONFIG, SOURCES), file=sys.stderr)
    except (DiskFullError, forecast.WeightsRemovedError) as error:
        logger.error(str(error))  # an exception would come with places in this file
        sys.exit(1)


@functools.cache
def project_state():
    """What results depend on besides their inputs."""
    return records.state_of(CONFIG, Path(workflow.basedir, "scripts"))


def check_dates():
    """Refuse inputs from the future: what is made from them would never be finished."""
    inputs = {Path(path) for job in workflow.dag.jobs for path in job.input}
    lines = from_the_future(inputs)
    if lines:
        logger.error("\n".join(["these inputs cannot be used:", *lines]))
        sys.exit(1)


def check_finished():
    """Refuse to go on from results that are another configuration's, or nobody's."""
    from snakemake.settings.enums import RerunTrigger

    if workflow.touch or RerunTrigger.PARAMS not in workflow.rerun_triggers:
        return
    dag = workflow.dag
    finished = [job for job in dag.jobs if not dag.needrun(job)]
    problems = records.set_aside_foreign(finished, ROOTS)
    if problems:
        for problem in problems[:20]:
            print(f"set aside: {problem}", file=sys.stderr)
        logger.error(
            f"{len(problems)} results were not made by this configuration, and are set aside "
            f"(*.aside). The same command makes them again: {COMMAND}"
        )
        sys.exit(1)
    if any(job.rule.name == "all" for job in dag.jobs):
        records.remember_compared(project_state())


def end_displays():
    """End what rewrites the terminal's last line (plugins/), before something is printed."""
    for handler in workflow.logger_manager.get_log_handlers():
        handler.close()


def print_failures(snakemake_logs):
    """Show the end of each failed job's log, and the command to continue."""
    end_displays()
    text = "".join(Path(path).read_text(errors="replace") for path in snakemake_logs)
    print(failures.failure_summary(text, COMMAND), file=sys.stderr)


def print_results():
    """Show the results of the run, where its report was asked for, and where the pages are."""
    from t2i.base.files import read_json
    from t2i.report import history
    from t2i.report.summary import table

    pages = [
        Path(path)
        for job in workflow.dag.jobs
        for path in job.output
        if Path(path).name == "report.html"
    ]
    end_displays()
    for page in sorted(pages):
        results = page.with_name("report.json")
        if results.is_file():
            found = read_json(results)
            try:
                history.append(Path("results/history.jsonl"), found)
            except OSError as error:  # the results themselves are complete
                print(f"not added to the history: {error}", file=sys.stderr)
            print(f"\n{table(found)}")
        print(f"report: {page}")


def is_dry_run():
    """Whether nothing may change on disk; Snakemake itself knows only after the rules are read."""
    from snakemake.cli import parse_args

    return parse_args(sys.argv[1:])[1].dryrun


def end_orphans(dry):
    """Cancel what runs of this folder, none of which is alive, have left with Slurm."""
    try:
        if dry and (left := orphans.orphans()):
            print(
                f"{len(left)} jobs of a killed run are still with Slurm; the next run cancels them",
                file=sys.stderr,
            )
        elif not dry and (ended := orphans.cancel_orphans()):
            print(f"cancelled {ended} jobs of a killed run", file=sys.stderr)
    except orphans.OrphansError as error:
        raise WorkflowError(str(error)) from None


def begin():
    """Deal with what killed runs, damage and edits left behind; a dry run only reports it."""
    dry = is_dry_run()
    parent.announce_scheduler(COMMAND)
    dead = lock.has_dead_lock()
    alone = dead or not lock.is_locked()
    if dry and dead:
        print("a killed run left its lock; the next run removes it", file=sys.stderr)
    elif not dry and lock.remove_dead_lock():
        print("removed the lock of a run that was killed", file=sys.stderr)
    if alone:
        end_orphans(dry)
    word = "the next run sets aside" if dry else "set aside"
    for problem in damage.set_aside_damaged_shards(RUN, VARIANTS, SHARDS, dry):
        print(f"{word}, to be generated again: {problem}", file=sys.stderr)
    for problem in edited.set_aside_edited_trees(RUN, VARIANTS, dry):
        print(f"{word}, to be built again: {problem}", file=sys.stderr)
    for problem in records.set_aside_changed(ROOTS, dry):
        print(f"{word}, to be made again: {problem}", file=sys.stderr)
    if not dry:
        for path in records.unmark_finished(ROOTS):
            print(f"finished in a run that was stopped, kept: {path}", file=sys.stderr)
    last = {"report.json", "verdict.json"}
    targets = [path for path in map(Path, results()) if path.name in last]
    problem = records.set_aside_unknown(ROOTS, targets, project_state(), dry)
    if problem is not None:
        print(f"{word}, to be made again, the last results: {problem}", file=sys.stderr)


if workflow.exec_mode == ExecMode.DEFAULT:
    begin()


onstart:
    check_dates()
    check_finished()
    check_disk()


onsuccess:
    print_results()


onerror:
    print_failures(log)
