"""Train a DP-SGD model over a grid of privacy settings and measure what privacy costs.

Arguments -> grid -> trials in parallel -> parquet -> figures. The same command carries on where
an earlier one ended: only what is missing is run.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

# What takes long to import is imported where it is used: until `signals.handled`, Ctrl-C is a
# traceback.
from dpbench import __version__, cli, question
from dpbench.datasets import catalogue
from dpbench.errors import BadInput
from dpbench.execution import stacks
from dpbench.privacy import guarantee
from dpbench.processes import signals
from dpbench.trial import ENGINES, Trial

if TYPE_CHECKING:
    from dpbench.execution.grid import Grid
    from dpbench.execution.runner import Place, Workers
    from dpbench.store.history import Sweep


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    with signals.handled():
        try:
            return cli.run(_parser(), typed, lambda given: _sweep(given, typed))
        except KeyboardInterrupt:
            cli.say(
                "\nInterrupted; run the same command again to carry on: "
                f"python -m dpbench.sweep {shlex.join(typed)}"
            )
            return cli.EXIT_INTERRUPTED


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "python -m dpbench.sweep",
        __doc__,
        "0 all well; 1 some trials or timings failed; 2 bad input, or results that cannot be "
        "written; 4 nothing to run; 130 interrupted",
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
        "--fresh-noise",
        action="store_const",
        const=True,
        help="seed the sampler and the noise of private trials by the system, not by the trial; "
        "the seeds are recorded, and a release needs more than that (see README)",
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

    asked = parser.add_argument_group("the answer")
    asked.add_argument(
        "--answer-at",
        type=float,
        nargs="+",
        metavar="E",
        help="tell the best setting within each of these epsilons (default: those of "
        "--target-epsilon, else 1 3 8)",
    )
    asked.add_argument(
        "--confirm",
        type=int,
        metavar="N",
        help="run the best settings again on N seeds that no other trial has, and tell their "
        "accuracy by those alone (default: 0, by the seeds that chose them)",
    )
    asked.add_argument(
        "--tuned-in",
        nargs="+",
        metavar="DIR",
        help="stores in which settings were tried on the same data before: they count in what "
        "choosing costs",
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
        "--stack",
        default="auto",
        metavar="N",
        help="most trials of one seed and batch size that are trained at once as one model; auto: "
        f"{stacks.AUTO_ON_GPU} on a GPU, 1 on a CPU, where it saves nothing (default: auto)",
    )
    run.add_argument(
        "--physical-batch-size",
        type=int,
        metavar="N",
        help="most examples in one forward pass; bounds memory, not results (default: "
        "256 on a CPU, 2048 on a GPU)",
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
    cli.add_output_flags(parser)
    _add_cluster_flags(parser)
    return parser


def _add_cluster_flags(parser: argparse.ArgumentParser) -> None:
    """Where a dask.distributed cluster is, that somebody has started."""
    flags = parser.add_argument_group("a cluster (needs the extra `dask`)")
    flags.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="tcp://HOST:PORT or tls://HOST:PORT of a dask scheduler, whose workers run the trials",
    )
    flags.add_argument(
        "--scheduler-file", type=Path, metavar="FILE", help="instead: as dask scheduler writes it"
    )
    for name in ("ca-file", "cert", "key"):
        flags.add_argument(f"--tls-{name}", type=Path, metavar="FILE", help="as dask's flag")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is asked for.

    Attributes:
        text: What the sweep file says.
        data_root: Where the dataset's files are.
        dataset: Its name.
        grids: Whose union `trials` is.
        trials: To run, each once.
        question: What they are to answer.
        fresh: Seeds on which the best settings are run again.
        out: The store.
    """

    text: str
    data_root: Path
    dataset: str
    grids: "Sequence[Grid]"
    trials: Sequence[Trial]
    question: question.Question
    fresh: Sequence[int]
    out: Path


def _plan(given: argparse.Namespace) -> _Plan:
    """What the flags and the file come to."""
    from dpbench.execution import grid

    for name in ("jobs", "threads", "physical_batch_size"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise BadInput(f"Expected {name}={value} >= 1.")
    if given.trial_timeout is not None and not given.trial_timeout > 0:
        raise BadInput(f"Expected trial_timeout={given.trial_timeout} > 0.")
    text = grid.read_text(given.file) if given.file else ""
    top, tables = grid.parse(text, given.file)
    data_root = cli.data_root(given.data_root)
    named = given.dataset or str(top.get("dataset", catalogue.AUTO))
    dataset = cli.dataset(named, data_root, dry_run=given.dry_run)

    flags = {name: getattr(given, name) for name in (*grid.AXES, *grid.SCALARS)}
    layers = [{name: value for name, value in flags.items() if value is not None}]
    shared = grid.shared(top)
    grids = [grid.grid(*layers, table, shared, grid.defaults(dataset)) for table in tables]
    trials = grid.trials(grids, dataset)
    targets = [epsilon for each in grids for epsilon in each.target_epsilon or ()]
    asked = question.question(vars(given), top, targets)
    _refuse_no_store(asked.tuned_in)
    return _Plan(
        text=text,
        data_root=data_root,
        dataset=dataset,
        grids=grids,
        trials=trials,
        question=asked,
        fresh=question.fresh_seeds(trials, asked.confirm),
        out=given.out or Path("results") / (given.file.stem if given.file else f"{dataset}-sweep"),
    )


def _sweep(given: argparse.Namespace, typed: Sequence[str]) -> int:
    """Plans, and runs what is missing."""
    from dpbench import store

    plan = _plan(given)
    trials, out = plan.trials, plan.out
    if not trials:
        print("The grid holds no trial.", file=sys.stderr)
        return cli.EXIT_NOTHING
    _refuse_other_dataset(out, plan.dataset)
    warnings = _delta_warnings(trials)
    for line in () if given.quiet else warnings:
        cli.say(f"Warning: {line}")
    if given.dry_run:
        with _place(given, plan.dataset, plan.data_root, cli.planned_devices) as place:
            _print_plan(plan, place, warnings, given)
        return 0

    from dpbench.reporting import terminal

    record, failed = _run(plan, given, typed)
    rows = store.read_trials(out, store.set_aside)
    _print_answer(out, record, given)
    unfinished = [*terminal.unfinished(rows, [*record.trial_ids, *record.confirming]), *failed]
    for line in unfinished:
        cli.say(line)
    return cli.EXIT_FAILED_TRIALS if unfinished else 0


def _run(plan: _Plan, given: argparse.Namespace, typed: Sequence[str]) -> tuple["Sweep", list[str]]:
    """Runs the trials, the confirmations and the timings that are missing.

    Returns:
        The record of the sweep, and a line for each timing that has failed.
    """
    from dpbench import store
    from dpbench.analysis import choice
    from dpbench.execution import sweeping
    from dpbench.execution.runner import Here
    from dpbench.store import compaction, history

    trials, out = plan.trials, plan.out
    with _place(given, plan.dataset, plan.data_root) as place:
        if isinstance(place, Here) and not catalogue.unpacked(plan.dataset, plan.data_root):
            from dpbench.datasets import loading

            loading.load(
                plan.dataset, plan.data_root, "cpu"
            )  # which fails here, once, or not at all
        store.create(out)
        record = history.asked(
            "dpbench.sweep",
            typed,
            given.file,
            plan.text,
            [trial.trial_id for trial in trials],
            answer_at=plan.question.answer_at,
            tuned_in=plan.question.tuned_in,
        )
        history.write(out, record)
        compaction.compact(out)
        run = partial(
            sweeping.run_trials,
            place=place,
            out=out,
            retry_failed=given.retry_failed,
            quiet=given.quiet,
        )
        run(trials, meanwhile=_import_page)
        if plan.fresh:
            rows = store.read_trials(out, store.set_aside)
            again = choice.again(trials, rows, plan.question.answer_at, plan.fresh)
            record = replace(record, confirming=tuple(trial.trial_id for trial in again))
            history.write(out, record)
            if again and not given.quiet:
                cli.say(f"The best again, on {cli.named('seed', plan.fresh)}:")
            if again:
                run(again)
        if given.no_timing:
            return record, []
        timed = _timed(trials, plan.grids)
        return record, sweeping.run_timings(timed, place, out, quiet=given.quiet)


def _refuse_other_dataset(out: Path, dataset: str) -> None:
    """Raises BadInput where the store holds trials, and none of them on the dataset."""
    from dpbench import store

    if not (out / "trials").is_dir():  # what cannot be written to is told by `store.create`
        return
    rows = store.load(out, "trials", ["dataset"], on_damage=lambda *_: None)
    there = rows["dataset"].unique().to_pylist()
    if len(there) and dataset not in there:
        raise BadInput(
            f"Expected {out} to hold trials on {dataset}, not on {', '.join(sorted(there))}: name "
            "another folder with --out."
        )


def _refuse_no_store(folders: Sequence[str]) -> None:
    """Raises BadInput where a folder is no store."""
    for folder in folders:
        if not (Path(folder) / "trials").is_dir():
            raise BadInput(f"Expected tuned_in={folder} to be a folder that a sweep has written.")


def _timed(trials: Sequence[Trial], grids: "Sequence[Grid]") -> list[Trial]:
    """The trials whose engines are timed: not the one that only the baseline is trained by."""
    from dpbench.execution import grid

    named = {engine for each in grids for engine in each.engine}
    kept = [
        trial
        for trial in trials
        if trial.engine != grid.FASTEST_NON_PRIVATE or trial.engine in named
    ]
    return kept or list(trials)


@contextmanager
def _place(
    given: argparse.Namespace,
    dataset: str,
    data_root: Path,
    devices_of: Callable[[Sequence[str]], tuple[str, ...]] = cli.devices,
) -> Iterator["Place"]:
    """Where the trials run: on this machine, or on the cluster that is named."""
    from dpbench.execution.runner import Here

    asked = (given.scheduler, given.scheduler_file)
    for name in ("tls_ca_file", "tls_cert", "tls_key", "gpu_share"):
        if getattr(given, name) is not None and asked == (None, None):
            raise BadInput(f"Expected --scheduler with --{name.replace('_', '-')}.")
    if None not in asked:
        raise BadInput("Expected --scheduler or --scheduler-file, not both.")
    if asked == (None, None):
        devices = devices_of(given.device)
        jobs = given.jobs or (cli.cores() if devices == ("cpu",) else 1)
        yield Here(_workers(given, data_root, devices, jobs))
        return
    if given.jobs is not None:
        raise BadInput(f"Expected no jobs={given.jobs} with a scheduler: workers' threads say it.")
    if given.device not in (["auto"], ["cpu"], ["cuda"]):
        raise BadInput(f"Expected device={' '.join(given.device)} to be cpu or cuda on a cluster.")
    on_gpu = given.device == ["cuda"]
    share = given.gpu_share or 1.0
    if given.gpu_share is not None and not (on_gpu and 0 < given.gpu_share <= 1):
        raise BadInput(f"Expected gpu_share={given.gpu_share} in (0, 1], with --device cuda.")

    from dpbench.execution import cluster
    from dpbench.execution.cluster import remote_calls

    address = cluster.Address(
        scheduler=given.scheduler,
        scheduler_file=given.scheduler_file,
        tls_ca_file=given.tls_ca_file,
        tls_cert=given.tls_cert,
        tls_key=given.tls_key,
    )
    with cluster.connected(address) as client:
        place = cluster.Cluster(
            client,
            _workers(given, data_root, ("cuda:0" if on_gpu else "cpu",), jobs=1),
            remote_calls.Kit(
                dataset=dataset,
                versions=None if given.other_versions else remote_calls.versions(),
                device="cuda" if on_gpu else "cpu",
            ),
            gpu_share=share if on_gpu else None,
        )
        place.check()
        yield place


def _workers(
    given: argparse.Namespace, data_root: Path, devices: tuple[str, ...], jobs: int
) -> "Workers":
    from dpbench.execution.runner import Workers, usual_physical_batch_size

    return Workers(
        data_root=data_root,
        devices=devices,
        jobs=jobs,
        threads=given.threads,
        physical_batch_size=given.physical_batch_size or usual_physical_batch_size(devices[0]),
        trial_timeout_seconds=given.trial_timeout,
        stack=_stack(given.stack, devices),
    )


def _stack(asked: str, devices: Sequence[str]) -> int:
    """Most trials at once as one model."""
    if asked == "auto":
        return 1 if "cpu" in devices else stacks.AUTO_ON_GPU
    if not (asked.isascii() and asked.isdigit() and int(asked) >= 1):
        raise BadInput(f"Expected stack={asked!r} to be auto or a number from 1.")
    return int(asked)


def _delta_warnings(trials: Sequence[Trial]) -> list[str]:
    """Of each delta that is not below one over the number of training examples."""
    private = [trial for trial in trials if trial.delta is not None]
    pairs = {
        (trial.delta, catalogue.train_examples(trial.dataset, trial.validation_examples or 0))
        for trial in private
    }
    found = (guarantee.delta_warning(delta or 0.0, examples) for delta, examples in sorted(pairs))
    return [warning for warning in found if warning]


def _print_plan(
    plan: _Plan, place: "Place", warnings: Sequence[str], given: argparse.Namespace
) -> None:
    """Prints the trials, what each will spend, and the time that the missing ones will take."""
    from dpbench.execution import dry_run

    planned = dry_run.plan(
        plan.trials,
        place,
        plan.out,
        given.retry_failed,
        timed=() if given.no_timing else _timed(plan.trials, plan.grids),
        stacked=_stack(given.stack, (place.device,)) > 1,
        confirming=plan.fresh,
        warnings=warnings,
    )
    print(dry_run.one_object(planned) if given.json else dry_run.text(planned))


def _import_page() -> None:
    """What draws and writes the page takes a second to import; what fails, fails again there."""
    with suppress(Exception):
        from dpbench.reporting import store_report  # noqa: F401


def _print_answer(out: Path, own: "Sweep", given: argparse.Namespace) -> None:
    """Writes the store's page, and prints where it is and the answer of this sweep's trials."""
    from dpbench.reporting import store_report, terminal

    written = store_report.write_report(out, own=own)
    if written is not None and not given.quiet:
        print(terminal.as_json(written) if given.json else terminal.as_text(written))


if __name__ == "__main__":
    sys.exit(main())
