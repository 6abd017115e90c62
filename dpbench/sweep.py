"""Train a DP-SGD model over a grid of privacy settings and measure what privacy costs.

Arguments -> grid -> trials in parallel -> parquet -> figures. The same command carries on where
an earlier one ended: only what is missing is run.
"""

import argparse
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpbench import (
    __version__,
    catalogue,
    command,
    estimate,
    grid,
    history,
    interrupt,
    sharing,
    store,
)
from dpbench.progress import Progress, duration
from dpbench.runner import Workers
from dpbench.trial import (
    ENGINES,
    FAILURES,
    NON_PRIVATE,
    PASSING_FAILURES,
    PRIVATE_ENGINES,
    BadInput,
    EngineName,
    Trial,
)

PHYSICAL_BATCH_SIZE = 256  # bounds per-example gradients to 27 MB; larger ones are no faster


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    with interrupt.heeded():
        try:
            return command.run(_parser(), typed, lambda given: _sweep(given, typed))
        except KeyboardInterrupt:
            print(
                "\nInterrupted; run the same command again to carry on: "
                f"python -m dpbench.sweep {shlex.join(typed)}",
                file=sys.stderr,
            )
            return command.EXIT_INTERRUPTED


def _parser() -> command.Parser:
    parser = command.Parser(
        "python -m dpbench.sweep",
        __doc__,
        "0 all well; 1 some trials failed; 2 bad input, or results that cannot be written; "
        "4 nothing to run; 130 interrupted",
    )
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="SWEEP.toml", help="a sweep file; flags beat it"
    )
    parser.add_argument("--version", action="version", version=f"dpbench {__version__}")

    axes = parser.add_argument_group("axes (each takes one or more values)")
    for name, kind, text in (
        ("noise_multiplier", float, "noise over clipping norm; 0 clips without noise"),
        ("target_epsilon", float, "instead of --noise-multiplier, which is solved for"),
        ("max_grad_norm", float, "clipping norm of an example's gradient"),
        ("batch_size", int, "expected size of Poisson batches"),
        ("learning_rate", float, "default: grows with the batch size"),
        ("momentum", float, "of SGD"),
    ):
        axes.add_argument(
            f"--{name.replace('_', '-')}", dest=name, type=kind, nargs="+", metavar="X", help=text
        )
    axes.add_argument(
        "--seeds", "--seed", dest="seed", type=int, nargs="+", metavar="N", help="default: 0"
    )
    axes.add_argument(
        "--engine",
        nargs="+",
        metavar="NAME",
        help=f"how steps are computed, of {', '.join(ENGINES)} (default: fused)",
    )

    axes.add_argument(
        "--sampling",
        nargs="+",
        metavar="NAME",
        help="how batches are drawn, of poisson and shuffle (default: poisson)",
    )

    shared = parser.add_argument_group("every trial")
    shared.add_argument("--epochs", type=int, metavar="N")
    shared.add_argument("--delta", type=float, metavar="X", help="default: 1e-5")
    shared.add_argument(
        "--no-baseline",
        dest="baseline",
        action="store_const",
        const=False,
        help="leave out the non-private trial of each batch size",
    )
    shared.add_argument(
        "--clip-only",
        action="store_const",
        const=True,
        help="add each private trial without noise: what clipping alone costs",
    )
    shared.add_argument(
        "--validation-examples",
        "--validation",
        type=int,
        metavar="N",
        help="hold out so many training examples and choose by them (default: 0)",
    )
    shared.add_argument(
        "--dataset",
        help=f"{catalogue.AUTO} or one of {', '.join(catalogue.DATASETS)} (default: "
        f"{catalogue.AUTO}, which is mnist, or {catalogue.FALLBACK} where that cannot be had)",
    )
    shared.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="a torchvision root (default: DPBENCH_DATA, or a folder in the user's cache)",
    )

    run = parser.add_argument_group("the run")
    run.add_argument(
        "--device",
        nargs="+",
        default=["auto"],
        metavar="NAME",
        help="auto, cpu, cuda, or several of cuda:0 cuda:1 ... to spread trials (default: auto)",
    )
    run.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="trials at a time on each device (default: a worker per core, or one per GPU)",
    )
    run.add_argument("--threads", type=int, default=1, metavar="N", help="of each (default: 1)")
    run.add_argument(
        "--physical-batch-size",
        type=int,
        default=PHYSICAL_BATCH_SIZE,
        metavar="N",
        help="most examples in one forward pass; bounds memory, not results (default: %(default)s)",
    )
    run.add_argument(
        "--trial-timeout",
        type=float,
        metavar="SECONDS",
        help="ends a trial that takes longer (default: as long as it takes)",
    )
    run.add_argument(
        "--retry-failed",
        action=argparse.BooleanOptionalAction,
        help="try all failed trials again, or none (default: those that crashed or found too "
        "little memory, but not those whose error will repeat)",
    )
    run.add_argument("--out", type=Path, metavar="DIR", help="default: results/DATASET-sweep")
    run.add_argument("--no-timing", action="store_true", help="leave out the overhead measurement")
    run.add_argument(
        "--dry-run", action="store_true", help="print the trials, their epsilons and the time"
    )
    command.add_output_flags(parser)
    return parser


def _sweep(given: argparse.Namespace, typed: Sequence[str]) -> int:
    """Plans, and runs what is missing."""
    for name in ("jobs", "threads", "physical_batch_size"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise BadInput(f"Expected {name}={value} >= 1.")
    if given.trial_timeout is not None and not given.trial_timeout > 0:
        raise BadInput(f"Expected trial_timeout={given.trial_timeout} > 0.")
    top, tables = grid.read_toml(given.file) if given.file else ({}, [{}])
    data_root = command.data_root(given.data_root)
    asked = given.dataset or str(top.get("dataset", catalogue.AUTO))
    dataset = command.dataset(asked, data_root, dry_run=given.dry_run)

    flags = {name: getattr(given, name) for name in (*grid.AXES, *grid.SCALARS)}
    layers = [{name: value for name, value in flags.items() if value is not None}]
    shared = {name: value for name, value in top.items() if name != "dataset"}
    trials = grid.trials(
        [grid.grid(*layers, table, shared, grid.defaults(dataset)) for table in tables], dataset
    )
    if not trials:
        print("The grid holds no trial.", file=sys.stderr)
        return command.EXIT_NOTHING
    out = given.out or Path("results") / (given.file.stem if given.file else f"{dataset}-sweep")
    if given.dry_run:
        todo = _todo(trials, store.states(out), given.retry_failed)
        workers = given.jobs or command.cores()
        _print_plan(trials, todo, workers=workers, out=out, timed=not given.no_timing)
        return 0

    from dpbench import data, folding, wording

    devices = command.devices(given.device)
    workers = Workers(
        data_root=data_root,
        devices=devices,
        jobs=given.jobs or (command.cores() if devices == ("cpu",) else 1),
        threads=given.threads,
        physical_batch_size=given.physical_batch_size,
        trial_timeout_seconds=given.trial_timeout,
    )
    data.load(dataset, data_root, "cpu")  # unpacked once, before any worker reads it
    store.create(out)
    history.write(out, _asked(given.file, typed, trials))
    folding.tidy(out)
    _run_trials(trials, workers, out, given.retry_failed, quiet=given.quiet)
    if not given.no_timing:
        _run_timings(trials, workers, out, quiet=given.quiet)
    rows = store.read_trials(out, store.set_aside)
    _print_answer(out, given)
    unfinished = list(wording.unfinished(rows, [trial.trial_id for trial in trials]))
    for line in unfinished:
        print(line, file=sys.stderr)
    return command.EXIT_FAILED_TRIALS if unfinished else 0


def _todo(
    trials: Sequence[Trial], states: Mapping[str, str], retry_failed: bool | None
) -> list[Trial]:
    """The trials to run: those without an outcome, and of the failed ones those to try again."""
    again = {None: PASSING_FAILURES, True: tuple(FAILURES), False: ()}[retry_failed]
    return [trial for trial in trials if states.get(trial.trial_id) in (None, *again)]


def _measured_rates(out: Path) -> dict[str, float]:
    """Examples per second by engine, as the store's trials have seen them."""
    seen = store.load(out, "trials", ["engine", "examples_per_second"]).to_pandas()
    rows = seen.dropna(subset="examples_per_second")
    return {
        str(k): float(v) for k, v in rows.groupby("engine")["examples_per_second"].median().items()
    }


def _timed(trials: Sequence[Trial]) -> list[tuple[EngineName, int]]:
    """The engines and batch sizes to time: every private engine, and non-private against itself.

    The latter tells how far from 1 a ratio is by the machine's noise alone.
    """
    engines = {NON_PRIVATE, *PRIVATE_ENGINES, *(trial.engine for trial in trials)}
    batch_sizes = sorted({trial.batch_size for trial in trials})
    return [(engine, size) for engine in ENGINES if engine in engines for size in batch_sizes]


def _run_trials(
    trials: Sequence[Trial],
    workers: Workers,
    out: Path,
    retry_failed: bool | None,
    *,
    quiet: bool,
) -> None:
    """Runs the trials that are missing, each written as it ends."""
    from dpbench import folding, runner

    states = store.states(out, store.set_aside)
    todo = _todo(trials, states, retry_failed)
    done = sum(states.get(trial.trial_id) == "ok" for trial in trials)
    failed = len(trials) - len(todo) - done
    measured = _measured_rates(out)
    cost = {trial.trial_id: estimate.training_seconds(trial, measured) for trial in todo}
    if not quiet:
        print(
            f"{len(trials)} trials on {trials[0].dataset}"
            + (f", {done} of them done before" if done else "")
            + (f", {failed} failed before (--retry-failed tries them again)" if failed else "")
            + f": {len(todo)} to run, {workers.count} at a time, on {', '.join(workers.devices)}; "
            f"results in {out}",
            file=sys.stderr,
        )
    by_id = {trial.trial_id: trial for trial in todo}
    longest_first = sorted(todo, key=lambda trial: -cost[trial.trial_id])
    with (
        Progress(len(todo), sum(cost.values()), quiet=quiet) as progress,
        sharing.Claims(
            out,
            states,
            on_done=lambda trial: progress.done(
                f"{trial}: by another sweep", work=cost[trial.trial_id], failed=False
            ),
        ) as claims,
        closing(runner.run(longest_first, workers, claims)) as results,
    ):
        for count, rows in enumerate(results, start=1):
            store.write_trial(out, rows)
            last = rows[-1]
            trial = by_id[last["trial_id"]]
            progress.done(
                f"{trial}: {_outcome(last)}",
                work=cost[trial.trial_id],
                failed=last["status"] != "ok",
            )
            if count % folding.MANY == 0:
                folding.tidy(out)


def _outcome(row: Mapping[str, Any]) -> str:
    if row["status"] != "ok":
        return f"{row['status']} in epoch {row['epoch']}: {command.one_line(row['reason'])}"
    spent = "" if row["epsilon"] is None else f" at epsilon {row['epsilon']:.3g}"
    return f"{100 * row['test_accuracy']:.2f} %{spent}"


def _run_timings(trials: Sequence[Trial], workers: Workers, out: Path, *, quiet: bool) -> None:
    """Measures the overheads that are missing, alone, in this process."""
    from dpbench import runner

    device = workers.devices[0]
    known = store.read_timings(out)
    seen = set(zip(known["engine"], known["batch_size"], known["device"], strict=True))
    missing = [each for each in _timed(trials) if (*each, device) not in seen]
    with Progress(len(missing), len(missing), what="timings", quiet=quiet) as progress:
        for engine, batch_size in missing:
            rows = runner.time_engine(engine, batch_size, trials[0].dataset, workers)
            name = f"{engine}-{batch_size}-{device.replace(':', '-')}"
            store.write_timings(out, name, rows)
            ratios = [row["seconds_per_step"] / row["baseline_seconds_per_step"] for row in rows]
            progress.done(
                f"{engine} batch {batch_size}: {statistics.median(ratios):.2f} x non-private",
                work=1,
                failed=False,
            )


def _print_plan(
    trials: Sequence[Trial], todo: Sequence[Trial], *, workers: int, out: Path, timed: bool
) -> None:
    """Prints the trials, what each will spend, and the time that the missing ones will take."""
    from dpbench import accounting

    missing = {trial.trial_id for trial in todo}
    print(f"{'epsilon':>9}  {'epochs':>6}  trial ({trials[0].dataset})")
    for trial in trials:
        epsilon = "-"
        if trial.private:
            of = (trial.dataset, trial.batch_size, trial.validation_examples or 0)
            spent = accounting.spent_by(
                trial,
                sample_rate=catalogue.sample_rate(*of),
                steps=trial.epochs * catalogue.steps_per_epoch(*of),
                epochs=trial.epochs,
            )
            epsilon = f"{spent.epsilon:.4g}"
        done = "" if trial.trial_id in missing else "  (done)"
        print(f"{epsilon:>9}  {trial.epochs:>6}  {trial}{done}")
    seconds = estimate.sweep_seconds(
        todo,
        workers=workers,
        timings=len(_timed(trials)) if timed else 0,
        measured=_measured_rates(out),
    )
    print(
        f"{len(trials)} trials, {len(todo)} to run into {out}: about {duration(seconds)} "
        f"with {workers} at a time"
    )


def _asked(file: Path | None, typed: Sequence[str], trials: Sequence[Trial]) -> history.Sweep:
    """What the user asked for, for the store to remember."""
    return history.Sweep(
        command=shlex.join(["python", "-m", "dpbench.sweep", *typed]),
        file_name=None if file is None else str(file),
        file_text=None if file is None else file.read_text(encoding="utf-8"),
        dpbench_version=__version__,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        trial_ids=tuple(trial.trial_id for trial in trials),
    )


def _print_answer(out: Path, given: argparse.Namespace) -> None:
    """Writes the page, and prints the answer and where it is."""
    from dpbench import report

    written = report.write(out)
    if written is not None and not given.quiet:
        print(report.answer(written, as_json=given.json))


if __name__ == "__main__":
    sys.exit(main())
