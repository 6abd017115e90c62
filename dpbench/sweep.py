"""Train a DP-SGD model over a grid of privacy settings and measure what privacy costs.

Arguments -> grid -> trials in parallel -> parquet -> figures. The same command carries on where
an earlier one ended: only what is missing is run.
"""

import argparse
import difflib
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dpbench import __version__, catalogue, estimate, grid, store
from dpbench.progress import Progress, duration
from dpbench.runner import Workers
from dpbench.trial import (
    ENGINES,
    NON_PRIVATE,
    PRIVATE_ENGINES,
    BadInput,
    EngineName,
    Trial,
)

EXIT_FAILED_TRIALS, EXIT_USAGE, EXIT_NOTHING, EXIT_INTERRUPTED = 1, 2, 4, 130
PHYSICAL_BATCH_SIZE = 256  # bounds per-example gradients to 27 MB; larger ones are no faster
BEST_AT = (1.0, 3.0, 8.0)  # epsilons that the closing lines answer for


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the nearest flag for one that is not known."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        flags = list(self._option_string_actions)
        nearest = [flag for flag in flags if flag.startswith(unknown)]
        nearest = nearest or difflib.get_close_matches(unknown, flags, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else "see --help"
        self.exit(EXIT_USAGE, f"{self.prog}: {message} ({hint})\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = _arguments()
    given = parser.parse_args(arguments)
    try:
        return _sweep(given)
    except BadInput as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=False, kill_workers=True)
        print("\nInterrupted; run the same command again to carry on.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _arguments() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m dpbench.sweep",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 all well; 1 some trials failed; 2 bad input; 4 nothing to run; "
        "130 interrupted",
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
    run.add_argument("--out", type=Path, metavar="DIR", help="default: results/DATASET-sweep")
    run.add_argument("--no-timing", action="store_true", help="leave out the overhead measurement")
    run.add_argument(
        "--dry-run", action="store_true", help="print the trials, their epsilons and the time"
    )
    return parser


def _sweep(given: argparse.Namespace) -> int:
    """Plans, and runs what is missing."""
    for name in ("jobs", "threads", "physical_batch_size"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise BadInput(f"Expected {name}={value} >= 1.")
    top, tables = grid.read_toml(given.file) if given.file else ({}, [{}])
    data_root = _data_root(given.data_root)
    asked = given.dataset or top.get("dataset", catalogue.AUTO)
    dataset = _dataset(asked, data_root, dry_run=given.dry_run)

    flags = {name: getattr(given, name) for name in (*grid.AXES, *grid.SCALARS)}
    layers = [{name: value for name, value in flags.items() if value is not None}]
    shared = {name: value for name, value in top.items() if name != "dataset"}
    trials = grid.trials(
        [grid.grid(*layers, table, shared, grid.defaults(dataset)) for table in tables], dataset
    )
    if not trials:
        print("The grid holds no trial.", file=sys.stderr)
        return EXIT_NOTHING
    out = given.out or Path("results") / (given.file.stem if given.file else f"{dataset}-sweep")
    finished = store.finished(out)
    todo = [trial for trial in trials if trial.trial_id not in finished]

    if given.dry_run:
        workers = given.jobs or _cores()
        _print_plan(trials, todo, workers=workers, out=out, timed=not given.no_timing)
        return 0

    workers = _workers(given, data_root)
    _load(dataset, data_root)
    store.create(out)
    failed = _run_trials(trials, todo, workers, out)
    if not given.no_timing:
        _run_timings(trials, workers, out)
    _print_results(out, failed)
    return EXIT_FAILED_TRIALS if failed else 0


def _data_root(flag: Path | None) -> Path:
    if flag is not None:
        return flag
    if named := os.environ.get("DPBENCH_DATA"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpbench"


def _dataset(asked: Any, data_root: Path, *, dry_run: bool) -> str:
    """The dataset's name; `auto` resolved, with a line on stderr where it is not MNIST."""
    if asked != catalogue.AUTO:
        catalogue.entry(str(asked))
        return str(asked)
    if catalogue.present("mnist", data_root):
        return "mnist"
    if dry_run:
        print(
            f"MNIST is not under {data_root}: a run would ask a mirror for it, and fall back to "
            f"{catalogue.FALLBACK} (--dataset {catalogue.FALLBACK} shows that plan).",
            file=sys.stderr,
        )
        return "mnist"
    from dpbench import data

    try:
        data.load("mnist", data_root, "cpu")
    except BadInput:
        size = catalogue.entry(catalogue.FALLBACK).train_examples
        print(
            f"MNIST is not under {data_root} and no mirror answers: running on the embedded "
            f"{catalogue.FALLBACK} ({size:,} training images) instead; for MNIST give --data-root.",
            file=sys.stderr,
        )
        return catalogue.FALLBACK
    return "mnist"


def _load(dataset: str, data_root: Path) -> None:
    """Unpacks the dataset once, before any worker reads it, or says that it is not there."""
    from dpbench import data

    data.load(dataset, data_root, "cpu")


def _workers(given: argparse.Namespace, data_root: Path) -> Workers:
    import torch

    devices = []
    for name in given.device:
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"  # noqa: PLW2901
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise BadInput(f"Expected device={name!r} to be auto, cpu, cuda or cuda:N.") from error
        if device.type not in ("cpu", "cuda"):
            raise BadInput(f"Expected device={name!r} to be auto, cpu, cuda or cuda:N.")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise BadInput(
                f"Expected device={name!r} to be one of the {torch.cuda.device_count()} CUDA "
                "devices that PyTorch sees; use --device cpu where there is none."
            )
        devices.append(f"cuda:{device.index or 0}" if device.type == "cuda" else "cpu")
    twice = [name for name in devices if devices.count(name) > 1]
    if twice:
        raise BadInput(f"Expected each device once, not {twice[0]} twice; --jobs shares one.")
    default_jobs = _cores() if devices == ["cpu"] else 1
    return Workers(
        data_root=data_root,
        devices=tuple(devices),
        jobs=given.jobs or default_jobs,
        threads=given.threads,
        physical_batch_size=given.physical_batch_size,
    )


def _cores() -> int:
    """Processors that this process may use."""
    import joblib

    return int(joblib.cpu_count())


def _measured_rates(out: Path) -> dict[str, float]:
    """Examples per second by engine, as the store's trials have seen them."""
    rows = store.read_trials(out).dropna(subset="examples_per_second")
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


def _run_trials(trials: Sequence[Trial], todo: Sequence[Trial], workers: Workers, out: Path) -> int:
    """Runs the trials that are missing, each written as it ends; how many failed."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    from dpbench import runner

    done = len(trials) - len(todo)
    measured = _measured_rates(out)
    cost = {trial.trial_id: estimate.training_seconds(trial, measured) for trial in todo}
    print(
        f"{len(trials)} trials on {trials[0].dataset}"
        + (f", {done} of them done before" if done else "")
        + f": {len(todo)} to run, {workers.count} at a time, on {', '.join(workers.devices)}; "
        f"results in {out}",
        file=sys.stderr,
    )
    failed = 0
    by_id = {trial.trial_id: trial for trial in todo}
    longest_first = sorted(todo, key=lambda trial: -cost[trial.trial_id])
    try:
        with Progress(len(todo), sum(cost.values())) as progress:
            for rows in runner.run(longest_first, workers):
                store.write_trial(out, rows)
                last = rows[-1]
                trial = by_id[last["trial_id"]]
                failed += last["status"] == "failed"
                progress.done(
                    f"{trial}: {_outcome(last)}",
                    work=cost[trial.trial_id],
                    failed=last["status"] == "failed",
                )
    except TerminatedWorkerError as error:
        reason = str(error).partition("\n")[0]
        print(f"A worker died ({reason}) Run the same command again to carry on.", file=sys.stderr)
        sys.exit(EXIT_FAILED_TRIALS)
    return failed


def _outcome(row: Mapping[str, Any]) -> str:
    if row["status"] == "failed":
        return f"failed in epoch {row['epoch']}: {row['reason']}"
    spent = "" if row["epsilon"] is None else f" at epsilon {row['epsilon']:.3g}"
    return f"{100 * row['test_accuracy']:.2f} %{spent}"


def _run_timings(trials: Sequence[Trial], workers: Workers, out: Path) -> None:
    """Measures the overheads that are missing, alone, in this process."""
    from dpbench import runner

    device = workers.devices[0]
    known = store.read_timings(out)
    seen = set(zip(known["engine"], known["batch_size"], known["device"], strict=True))
    missing = [each for each in _timed(trials) if (*each, device) not in seen]
    with Progress(len(missing), len(missing), what="timings") as progress:
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
        if trial.noise_multiplier is not None and trial.delta is not None:
            spent = accounting.spent(
                noise_multiplier=trial.noise_multiplier,
                sample_rate=catalogue.sample_rate(trial.dataset, trial.batch_size),
                steps=trial.epochs * catalogue.steps_per_epoch(trial.dataset, trial.batch_size),
                delta=trial.delta,
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


def _print_results(out: Path, failed: int) -> None:
    """The answer in a few lines, and where the rest is."""
    from dpbench import analysis, report

    trials = store.read_trials(out)
    finals = analysis.final(trials)
    for _, arm in analysis.over_seeds(analysis.non_private(finals)).iterrows():
        print(f"non-private, batch size {arm['batch_size']}: {100 * arm['test_accuracy']:.1f} %")
    arms = analysis.over_seeds(analysis.private(trials))
    for bound in BEST_AT:
        within = arms[arms["epsilon"] <= bound]
        if within.empty:
            print(f"epsilon at most {bound:g}: no trial")
            continue
        best = within.loc[within["test_accuracy"].idxmax()]
        print(
            f"epsilon at most {bound:g}: {100 * best['test_accuracy']:.1f} % with noise multiplier "
            f"{best['noise_multiplier']:g}, clipping norm {best['max_grad_norm']:g}, batch size "
            f"{best['batch_size']}, {best['epoch']} epochs (the best of {len(within)} on the test "
            "set, so a little too good)"
        )
    if failed:
        print(f"{failed} trials failed; their rows say why, and the same command tries them again")
    print(f'rows: pandas.read_parquet("{out}/trials")')
    for path in report.write(out):
        if path.suffix == ".png":
            print(path)


if __name__ == "__main__":
    sys.exit(main())
