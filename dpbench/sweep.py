"""Measure what privacy costs: train with DP-SGD over a grid of settings.

Arguments -> grid -> trials in parallel -> parquet -> figures. The same command carries on where
an earlier one ended: only what is missing is run.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

# Modules that are slow to import are imported where they are used: Ctrl-C before
# `signals.handled` prints a traceback.
from dpbench import cli, completion, console, datasets
from dpbench.datasets import resolution
from dpbench.execution import grid, private_request, stacks, sweep_file
from dpbench.execution.axes import Axis
from dpbench.execution.resources import Resources
from dpbench.execution.sweep_file import SweepFile
from dpbench.execution.sweep_plan import SweepPlan, plan_sweep
from dpbench.privacy import run_count
from dpbench.processes import signals

if TYPE_CHECKING:
    from dpbench.store.history import Sweep


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m dpbench.sweep") -> int:
    """Runs the command; returns its exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    with signals.handled():
        try:
            parser = _parser(prog)
            return cli.run(parser, typed, lambda given: _sweep(parser, given, typed))
        except KeyboardInterrupt:
            console.say(
                f"\nInterrupted; run the same command again to carry on: {prog} {shlex.join(typed)}"
            )
            return cli.EXIT_INTERRUPTED


def _sweep(parser: cli.Parser, given: argparse.Namespace, typed: Sequence[str]) -> int:
    """Plans, and runs what is missing."""
    file = sweep_file.parse("")
    if given.file:
        file = sweep_file.read(given.file, parser.keys)
        given = parser.with_settings(file.settings, typed, given.file)
    resources = Resources(**{each.name: getattr(given, each.name) for each in fields(Resources)})
    plan = _plan(given, file)
    if plan.private is not None:
        return _private(plan, resources, given, file.text, typed)
    if not plan.trials:
        print("The grid holds no trial.", file=sys.stderr)
        return cli.EXIT_NOTHING
    if given.dry_run:
        return _dry_run(plan, resources, given)
    from dpbench.execution.sweep_run import run_planned

    result = run_planned(
        plan,
        resources,
        _asked(plan, given, file.text, typed),
        retry_failed=given.retry_failed,
        timings=not given.no_timing,
        quiet=given.quiet,
    )
    if result.report is not None and not given.quiet:
        from dpbench.reporting import terminal

        print(terminal.as_json(result.report) if given.json else terminal.as_text(result.report))
    for line in result.unfinished:
        console.say(line)
    return cli.EXIT_FAILED_TRIALS if result.unfinished else 0


def _asked(plan: SweepPlan, given: argparse.Namespace, text: str, typed: Sequence[str]) -> "Sweep":
    from dpbench.store import history

    return history.asked(
        "dpbench.sweep",
        typed,
        given.file,
        text,
        answer_at=plan.answer_at,
        tuned_in=plan.tuned_in,
        choose_by=plan.choose_by,
    )


def _private(
    plan: SweepPlan,
    resources: Resources,
    given: argparse.Namespace,
    text: str,
    typed: Sequence[str],
) -> int:
    """Draws a private search, or goes on with the one that was drawn, and prints its best run."""
    from dpbench.execution import private_run
    from dpbench.reporting import private_text

    assert plan.private is not None
    private_run.refuse(retry_failed=given.retry_failed, trial_timeout=resources.trial_timeout)
    if given.dry_run:
        from dpbench.execution import private_price

        print(private_text.planned(private_price.priced(plan.private), as_json=given.json))
        return 0
    found = private_run.run(
        plan,
        resources,
        _asked(plan, given, text, typed),
        retry_failed=given.retry_failed,
        quiet=given.quiet,
    )
    if not given.quiet:
        print(private_text.as_json(found) if given.json else private_text.as_text(found))
    for line in found.unfinished:
        console.say(line)
    return cli.EXIT_FAILED_TRIALS if found.unfinished else 0


def _plan(given: argparse.Namespace, file: SweepFile) -> SweepPlan:
    """The plan of the flags and the sweep file; a flag wins over the file."""
    settings = {
        name: getattr(given, name)
        for name in sweep_file.SETTINGS
        if getattr(given, name) is not None
    }
    data_root = resolution.data_root(given.data_root)
    named = str(settings.pop("dataset", datasets.AUTO))
    flags = {name: getattr(given, name) for name in grid.AXES}
    return plan_sweep(
        file.grids({name: value for name, value in flags.items() if value is not None}),
        dataset=resolution.dataset(named, data_root, dry_run=given.dry_run),
        data_root=data_root,
        out=given.out or (Path("results") / given.file.stem if given.file else None),
        **settings,
    )


def _dry_run(plan: SweepPlan, resources: Resources, given: argparse.Namespace) -> int:
    """Prints the trials, what each will spend, and the time that the missing ones will take."""
    from dpbench.execution import dry_run
    from dpbench.execution.resources import open_backend
    from dpbench.execution.sweep_run import refuse_other_dataset
    from dpbench.execution.user_work import UserWork
    from dpbench.measurement import devices

    refuse_other_dataset(plan)
    with open_backend(
        resources,
        dataset=plan.dataset,
        data_root=plan.data_root,
        user=UserWork.of(plan.trials),
        resolve=devices.planned,
    ) as backend:
        planned = dry_run.plan(
            plan.trials,
            backend,
            plan.out,
            given.retry_failed,
            timed=() if given.no_timing else plan.timed,
            stacked=resources.stacked(backend.device) > 1,
            confirming=plan.confirming_seeds,
            search=plan.search,
            warnings=[*plan.warnings, *resources.warnings],
        )
    if not given.quiet:
        for line in planned.warnings:
            console.say(f"Warning: {line}")
        if plan.search is not None:
            console.say(plan.search.sentence)
    print(dry_run.one_object(planned) if given.json else dry_run.text(planned))
    if any(each.target_epsilon for each in plan.grids) and not given.quiet:
        console.say(
            "Noise was solved for this number of training examples, batch size and number of "
            "steps, and holds for no other: copy the target epsilon, not the noise."
        )
    return 0


_COMMON = {
    "axes, of one or more values: 1 2 or 1,2 or 0.5:2:0.5 or log:0.1:10:5": {
        "--noise-multiplier": "noise over clipping norm",
        "--target-epsilon": "instead: the noise is solved for",
        "--max-grad-norm": "clipping norm of an example's gradient",
        "--batch-size": "expected size of Poisson batches",
        "--learning-rate": "default: grows with the batch size",
        "--seeds": "default: 0",
        "--model": "default: the dataset's",
    },
    "every trial and the run:": {
        "--dataset": f"default: {datasets.DEFAULT}, else {datasets.stand_in(datasets.DEFAULT)}",
        "--epochs": "default, as of the axes: the dataset's",
        "--validation": "held out to choose by, as 5000 or 10%",
        "--confirm": "run the best again on N fresh seeds",
        "--out": "default: results/DATASET-sweep",
        "--jobs": "trials at a time (default: the cores)",
        "--dry-run": "print the trials, epsilons and time",
    },
}
_EXAMPLES = (
    "--target-epsilon 1 3 8 --validation 10% --confirm 3",
    "--search 20 --epsilon 3 --lr log:0.1:16 --val 10% --early-stop",
    "mine.toml --jobs 2   # a file of flags",
)


def _parser(prog: str) -> cli.Parser:
    parser = cli.Parser(
        prog,
        str(__doc__).partition("\n\n")[0],
        "0 all well; 1 some trials or timings failed; 2 bad input, or results that cannot be "
        "written; 4 nothing to run; 130 interrupted",
        examples=_EXAMPLES,
        details=str(__doc__).partition("\n\n")[2],
        common=_COMMON,
    )
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="SWEEP.toml",
        help="keys are the flags' names, such as trial_timeout; flags beat it (default: none)",
    )
    _add_grid_flags(parser)
    _add_search_flags(parser)
    _add_answer_flags(parser)
    _add_run_flags(parser)
    cli.add_output_flags(parser)
    _add_cluster_flags(parser)
    return parser


def _add_grid_flags(parser: argparse.ArgumentParser) -> None:
    many = parser.add_argument_group(
        "axes, as 1 2 or 1,2 or FIRST:LAST:STEP or log:FIRST:LAST:COUNT"
    )
    shared = parser.add_argument_group("every trial")
    for axis in grid.AXES.values():
        _add_axis(many if axis.many else shared, axis)
    dataset = shared.add_argument(
        "--dataset",
        metavar="NAME",
        help=f"of {', '.join(datasets.names())}, or a function of yours, FILE.py:load or "
        f"package.module:load (default: {datasets.AUTO}, which is {datasets.DEFAULT}, or "
        f"{datasets.stand_in(datasets.DEFAULT)} where that cannot be had)",
    )
    completion.offer(dataset, (datasets.AUTO, *datasets.names()))
    shared.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="a torchvision root (default: DPBENCH_DATA, or a folder in the user's cache)",
    )


def _add_search_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "a search, from axes with several values or a range, LOW:HIGH or log:LOW:HIGH"
    )
    group.add_argument(
        "--search",
        type=int,
        metavar="N",
        help="draw N settings, and run each at every target epsilon and seed; N more later go on "
        "from them (default: none, run all of the grid)",
    )
    method = group.add_argument(
        "--search-method",
        metavar="NAME",
        help="sobol, which draws evenly, or optuna, which asks Optuna what to try next (needs the "
        "extra `optuna`; default: sobol)",
    )
    completion.offer(method, ("sobol", "optuna"))
    group.add_argument(
        "--early-stop",
        type=int,
        nargs="?",
        const=True,
        metavar="ETA",
        help="train all for a 16th of the epochs, the best one in ETA by validation for a 4th, and "
        "of these one in ETA for all (default: train all to the end; without a number: 4)",
    )
    group.add_argument(
        "--private-selection",
        nargs="?",
        const=run_count.DEFAULT,
        metavar="KIND",
        help="draw the number of settings, too, with mean N, and report the best with the epsilon "
        f"of the whole search; KIND of {', '.join(run_count.DISTRIBUTIONS)} (default: no; KIND: "
        f"{run_count.DEFAULT}; N: {private_request.MEAN})",
    )
    group.add_argument(
        "--total-epsilon",
        type=float,
        metavar="X",
        help="instead of a noise: solve for that with which a private selection spends at most X "
        "in all (default: none)",
    )
    group.add_argument(
        "--private-scores",
        action="store_true",
        default=None,
        help="add noise to the scores of a private selection, so that its guarantee covers the "
        "held-out examples, too",
    )


def _add_axis(group: "argparse._ArgumentGroup", axis: Axis) -> None:
    if axis.kind is bool:
        group.add_argument(
            *axis.flags,
            dest=axis.name,
            action="store_const",
            const=not axis.default,
            help=axis.help,
        )
        return
    flag = group.add_argument(  # its text becomes values in `Axis.parsed`, as that of a sweep file
        *axis.flags,
        dest=axis.name,
        nargs="+" if axis.many else None,
        metavar={float: "X", int: "N", dict: "NAME=VALUE"}.get(axis.kind, "NAME"),
        help=axis.help,
    )
    if axis.choices:
        completion.offer(flag, axis.choices)


def _add_answer_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the answer")
    cli.add_numbers(
        group,
        "--answer-at",
        metavar="E",
        help="report the best setting within each of these epsilons (default: those of "
        "--target-epsilon, else 1 3 8)",
    )
    group.add_argument(
        "--confirm",
        type=int,
        metavar="N",
        help="run the best settings again on N seeds that no other trial has, and report their "
        "accuracy by those alone (default: 0, by the seeds that chose them)",
    )
    cli.add_choose_by(group)
    group.add_argument(
        "--tuned-in",
        nargs="+",
        metavar="DIR",
        help="stores in which settings were tried on the same data before: they count in what "
        "choosing costs (default: none)",
    )


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the run")
    group.add_argument(
        "--device",
        nargs="+",
        default=["auto"],
        metavar="NAME",
        help="auto, cpu, cuda, mps, or several of cuda:0 cuda:1 ... to spread trials (default: "
        "auto)",
    )
    group.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="trials at a time on each device (default: a worker per core, or one per GPU)",
    )
    group.add_argument("--threads", type=int, default=1, metavar="N", help="of each (default: 1)")
    group.add_argument(
        "--stack",
        type=lambda text: int(text) if text.isascii() and text.isdigit() else text,
        default="auto",
        metavar="N",
        help="most trials of one seed and batch size that are trained at once as one model; auto: "
        f"{stacks.AUTO_ON_GPU} on a GPU, 1 on a CPU, where it saves nothing (default: auto)",
    )
    group.add_argument(
        "--physical-batch-size",
        type=int,
        metavar="N",
        help="most examples in one forward pass; bounds memory, not results (default: "
        "256 on a CPU, 2048 on a GPU)",
    )
    group.add_argument(
        "--trial-timeout",
        type=float,
        metavar="SECONDS",
        help="ends a trial that takes longer (default: as long as it takes)",
    )
    group.add_argument(
        "--retry-failed",
        action=argparse.BooleanOptionalAction,
        help="try all failed trials again, or none (default: those that crashed or found too "
        "little memory, but not those whose error will repeat)",
    )
    group.add_argument("--out", type=Path, metavar="DIR", help="default: results/DATASET-sweep")
    group.add_argument(
        "--no-timing", action="store_true", help="leave out the overhead measurement"
    )
    group.add_argument(
        "--dry-run", action="store_true", help="print the trials, their epsilons and the time"
    )


def _add_cluster_flags(parser: argparse.ArgumentParser) -> None:
    """Where a dask.distributed cluster is, that somebody has started."""
    flags = parser.add_argument_group("a cluster (needs the extra `dask`)")
    flags.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="tcp://HOST:PORT or tls://HOST:PORT of a dask scheduler, whose workers run the trials "
        "(default: none, but this machine)",
    )
    flags.add_argument(
        "--scheduler-file", type=Path, metavar="FILE", help="instead: as dask scheduler writes it"
    )
    for name in ("ca-file", "cert", "key"):
        flags.add_argument(
            f"--tls-{name}", type=Path, metavar="FILE", help="as dask's flag (default: none)"
        )
    flags.add_argument(
        "--gpu-share",
        type=float,
        metavar="X",
        help="with --device cuda: how much of the resource GPU a trial takes (default: 1)",
    )
    flags.add_argument(
        "--other-versions",
        action="store_true",
        help="allow workers with other versions of dpbench, torch or opacus",
    )


if __name__ == "__main__":
    sys.exit(main())
