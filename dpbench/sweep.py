"""Measure what privacy costs: train with DP-SGD over a grid of settings.

Arguments -> grid -> trials in parallel -> parquet -> figures. The same command carries on where
an earlier one ended: only what is missing is run.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

# Modules that are slow to import are imported where they are used: Ctrl-C before
# `signals.handled` prints a traceback.
from dpbench import cli, console, datasets
from dpbench.datasets import resolution
from dpbench.execution import grid, run_flags, sweep_file, sweep_flags
from dpbench.execution.resources import Resources
from dpbench.execution.sweep_file import SweepFile
from dpbench.execution.sweep_plan import SweepPlan, plan_sweep
from dpbench.processes import signals

if TYPE_CHECKING:
    from dpbench.execution.private_request import Request
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
        return _private_dry_run(plan, plan.private, resources, given)
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


def _private_dry_run(
    plan: SweepPlan, asked: "Request", resources: Resources, given: argparse.Namespace
) -> int:
    """Prints what the search would spend, and the time that it will take; draws nothing."""
    from dpbench.execution import engine_checks, private_estimate, private_price
    from dpbench.execution.resources import open_backend
    from dpbench.execution.user_work import UserWork
    from dpbench.measurement import devices
    from dpbench.reporting import private_text

    priced = private_price.priced(asked)
    fastest = partial(engine_checks.fastest_right, data_root=plan.data_root)
    trials = private_estimate.sample(asked, priced, fastest=fastest)
    with open_backend(
        resources,
        dataset=plan.dataset,
        data_root=plan.data_root,
        user=UserWork.of(trials),
        resolve=devices.planned,
    ) as backend:
        takes = private_estimate.estimated(asked, trials, backend, plan.out)
    if not given.quiet:
        for line in resources.warnings:
            console.say(f"Warning: {line}")
    print(
        private_text.planned_json(priced, takes.values)
        if given.json
        else private_text.planned(priced, asked.count, takes.sentence)
    )
    return 0


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
        common=sweep_flags.COMMON,
    )
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="SWEEP.toml",
        help="keys are the flags' names, such as trial_timeout; flags beat it (default: none)",
    )
    sweep_flags.add_grid_flags(parser)
    sweep_flags.add_search_flags(parser)
    sweep_flags.add_answer_flags(parser)
    run_flags.add_run_flags(parser)
    cli.add_output_flags(parser)
    run_flags.add_cluster_flags(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
