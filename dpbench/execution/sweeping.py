"""A sweep: what is missing is run where it is to run, and written as it ends."""

import statistics
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench import console, datasets, store, strings
from dpbench.analysis import trial_rows
from dpbench.execution import estimate
from dpbench.execution.progress import Progress
from dpbench.execution.runner import TIMED_PROCESSES, Place
from dpbench.execution.schedule import Row
from dpbench.measurement import devices
from dpbench.processes import signals
from dpbench.store import claims
from dpbench.trial import (
    DEFAULT_MODEL,
    ENGINES,
    FAILURES,
    NON_PRIVATE,
    PASSING_FAILURES,
    PRIVATE_ENGINES,
    EngineName,
    Trial,
    Workload,
)

if TYPE_CHECKING:
    import pandas as pd


def missing(
    trials: Sequence[Trial], states: Mapping[str, str], retry_failed: bool | None
) -> list[Trial]:
    """The trials to run: those without an outcome, and of the failed ones those to try again."""
    again = {None: PASSING_FAILURES, True: tuple(FAILURES), False: ()}[retry_failed]
    return [trial for trial in trials if states.get(trial.trial_id) in (None, *again)]


def measured_rates(
    out: Path, *, device: str = "cpu", stacked: bool = False
) -> dict[tuple[str, str], float]:
    """Examples per second of one worker by engine and model, as the store's trials have seen them.

    Of stacked trials that is the throughput of the stack.

    Args:
        out: The store.
        device: What trials will run on; what ran on another kind of device is left out.
        stacked: Whether they will be stacked; of an engine that has run both ways, those that ran
            in this way count.
    """
    columns = ["engine", "model", "epoch", "examples_seen", "train_seconds", "examples_per_second"]
    columns += ["implementation", "stacked_trials", "device"]
    rows = store.load(out, "trials", columns).to_pandas().dropna(subset="examples_per_second")
    rows = rows[rows["device"].str.startswith(device.partition(":")[0], na=False)]
    # before the column was written, a stack's trials are known by the time that they share
    together = ["epoch", "examples_seen", "train_seconds"]
    alike = rows.groupby(together)["engine"].transform("size")
    unsaid = alike.where(rows["implementation"] == "stacked", 1)
    trials = rows["stacked_trials"].fillna(unsaid).astype(float)
    rows = rows.assign(rate=rows["examples_per_second"] * trials, wanted=(trials > 1) == stacked)
    by = ["engine", "model"]
    best = rows.groupby(by)["wanted"].transform("max")
    rates = rows[rows["wanted"] == best].groupby(by)["rate"].median()
    return {(engine, model): float(rate) for (engine, model), rate in rates.items()}


def timed(trials: Sequence[Trial]) -> list[tuple[EngineName, Workload]]:
    """The engines to time, and what to time them on.

    Those are every private engine, and non-private against itself.

    The latter tells how far from 1 a ratio is by the machine's noise alone.
    """
    engines = {NON_PRIVATE, *PRIVATE_ENGINES, *(trial.engine for trial in trials)}
    models = dict.fromkeys(trial.model for trial in trials)
    batch_sizes = sorted({trial.batch_size for trial in trials})
    return [
        (engine, Workload(dataset=trials[0].dataset, model=model, batch_size=size))
        for model in models
        for engine in ENGINES
        if engine in engines
        for size in batch_sizes
    ]


def run_trials(
    trials: Sequence[Trial],
    place: Place,
    out: Path,
    retry_failed: bool | None,
    *,
    quiet: bool,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Runs the trials that are missing, each written as it ends.

    Args:
        trials: The whole grid.
        place: Where.
        out: The store.
        retry_failed: See `missing`.
        quiet: Whether to print nothing.
        meanwhile: Called once, in a thread, as soon as the trials leave a core of this machine
            idle, if they do; it has ended when they have. Does not raise.
    """
    states = store.states(out, store.set_aside)
    todo = missing(trials, states, retry_failed)
    done = sum(states.get(trial.trial_id) == "ok" for trial in trials)
    failed = len(trials) - len(todo) - done
    measured = measured_rates(out, device=place.device)
    cost = {trial.trial_id: estimate.training_seconds(trial, measured) for trial in todo}
    if not quiet:
        console.say(
            f"{len(trials)} trials on {trials[0].dataset}"
            + (f", {done} of them done before" if done else "")
            + (f", {failed} failed before (--retry-failed tries them again)" if failed else "")
            + f": {len(todo)} to run, {place}; results in {out}"
        )
    by_id = {trial.trial_id: trial for trial in todo}
    longest_first = sorted(todo, key=lambda trial: -cost[trial.trial_id])
    with (
        Progress(len(todo), sum(cost.values()), quiet=quiet) as progress,
        claims.Claims(
            out,
            states,
            on_done=lambda trial: progress.done(
                f"{trial}: by another sweep", work=cost[trial.trial_id], failed=False
            ),
        ) as claimed,
        _accounting(longest_first) as accounted,
        _in_idle_core(meanwhile) as tell,
        closing(place.run(longest_first, claimed)) as results,
    ):
        tell(place.busy_cores(len(todo)))
        for count, trained in enumerate(results, start=1):
            rows = accounted(trained)
            store.write_trial(out, rows)
            last = rows[-1]
            trial = by_id[last["trial_id"]]
            progress.done(
                f"{trial}: {_outcome(last)}",
                work=cost[trial.trial_id],
                failed=last["status"] != "ok",
            )
            tell(place.busy_cores(len(todo) - count))


@contextmanager
def _accounting(trials: Sequence[Trial]) -> Iterator[Callable[[Sequence[Row]], list[Row]]]:
    """Yields what completes a trial's rows with the epsilons that its steps have spent.

    They are computed in a thread while the trials train, once for each noise, sample rate and
    number of steps, in the order in which the trials start.
    """
    planned: dict[tuple[object, ...], Future[None]] = {}
    ended = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        with signals.blocked():  # the thread inherits that, and leaves Ctrl-C to this one
            for trial in trials:
                if _mechanism(trial) not in planned:
                    planned[_mechanism(trial)] = thread.submit(_account_for, trial, ended)
        by_id = {trial.trial_id: planned[_mechanism(trial)] for trial in trials}

        def accounted(rows: Sequence[Row]) -> list[Row]:
            from dpbench.privacy import accounting

            wait([by_id[rows[0]["trial_id"]]])
            return [dict(row) | accounting.columns(row) for row in rows]

        try:
            yield accounted
        finally:
            ended.set()
            thread.shutdown(cancel_futures=True)


def _mechanism(trial: Trial) -> tuple[object, ...]:
    """Equal for trials that spend the same."""
    return (
        *(trial.dataset, trial.validation_examples, trial.batch_size, trial.sampling),
        *(trial.noise_multiplier, trial.delta, trial.epochs),
    )


def _account_for(trial: Trial, ended: threading.Event) -> None:
    """Has `accounting` remember what the trial will have spent after each epoch, until `ended`."""
    if not trial.private:
        return
    from dpbench.privacy import accounting

    of = (trial.dataset, trial.batch_size, trial.validation_examples or 0)
    for epoch in range(1, trial.epochs + 1):
        if ended.is_set():
            return
        accounting.spent_by(
            trial,
            sample_rate=datasets.sample_rate(*of),
            steps=epoch * datasets.steps_per_epoch(*of),
            epochs=epoch,
        )


@contextmanager
def _in_idle_core(work: Callable[[], None]) -> Iterator[Callable[[int], None]]:
    """Yields what is to be told how many cores are busy, and starts the work once one is not.

    It has ended when the context has: timings need the machine for themselves.
    """
    thread = threading.Thread(target=work)

    def tell(busy: int) -> None:
        if thread.ident is None and busy < devices.cores():
            with signals.blocked():  # the thread inherits that, and leaves Ctrl-C to this one
                thread.start()

    try:
        yield tell
    finally:
        if thread.ident is not None:
            thread.join()


def timing_name(engine: str, workload: Workload, device: str) -> str:
    """Begins the name of a timing's file: see `store.write_timings`.

    The default model is left out, as in the files of older versions.
    """
    data = workload.dataset
    if workload.model != DEFAULT_MODEL:
        data += f"-{workload.model}"
    return f"{data}-{engine}-{workload.batch_size}-{device.replace(':', '-')}"


def untimed(
    trials: Sequence[Trial], known: "pd.DataFrame", conditions: Mapping[str, object]
) -> list[tuple[EngineName, Workload]]:
    """The engines that are still to be timed, and what to time them on.

    Those are that were timed in fewer processes than TIMED_PROCESSES, as older versions did.

    Args:
        trials: The whole grid.
        known: Rows of `store.read_timings`; what was measured on another machine, or with other
            threads or versions, does not count.
        conditions: Of each of TIMED_UNDER, or of those that are known.
    """
    known = trial_rows.where(known, {"dataset": trials[0].dataset, **conditions})
    processes = known.groupby(["engine", "model", "batch_size"])["process"].nunique()
    done = set(processes.index[processes >= TIMED_PROCESSES])
    return [
        (engine, workload)
        for engine, workload in timed(trials)
        if (engine, workload.model, workload.batch_size) not in done
    ]


def run_timings(trials: Sequence[Trial], place: Place, out: Path, *, quiet: bool) -> list[str]:
    """Measures the overheads that are missing, those of one batch size after those of another.

    Returns:
        A line for each that has failed. The next run tries it again.
    """
    known = store.read_timings(out)
    todo = untimed(trials, known, {} if known.empty else place.conditions())
    engines: dict[Workload, list[EngineName]] = {}
    for engine, workload in todo:
        engines.setdefault(workload, []).append(engine)
    failed = []
    work = len(todo) * TIMED_PROCESSES
    with Progress(len(todo), work, what="timings", quiet=quiet) as progress:
        for workload, names in engines.items():
            with closing(place.time_engines(names, workload)) as parts:
                for rows in whole_timings(parts, TIMED_PROCESSES, progress):
                    write_timing(out, rows)
                    if rows[0]["status"] != "ok":
                        failed.append(failed_timing(rows))
    return failed


def whole_timings(
    parts: Iterable[list[Row]], processes: int, progress: Progress
) -> Iterator[list[Row]]:
    """All rows of each timing once it has been measured in so many processes, or has failed.

    Args:
        parts: As of `runner.Place.time_engines`, of one batch size.
        processes: That each is measured in.
        progress: Told of each process, whose work is 1, and of each timing that ends.
    """
    before: dict[str, list[list[Row]]] = {}
    for part in parts:
        of_engine = before.setdefault(part[0]["engine"], [])
        left = processes - len(of_engine)
        of_engine.append(part)
        failed = part[0]["status"] != "ok"
        if not failed and left > 1:
            progress.advance(1)
            continue
        rows = part if failed else [row for each in of_engine for row in each]
        line = f"{_named(part)}: {timing_outcome(rows)}"
        progress.done(line, work=left, failed=failed)
        yield rows


def write_timing(out: Path, rows: Sequence[Row]) -> None:
    """Writes a whole timing into the store; see `store.write_timings`."""
    row = rows[0]
    workload = Workload(dataset=row["dataset"], model=row["model"], batch_size=row["batch_size"])
    store.write_timings(out, timing_name(row["engine"], workload, row["device"]), rows)


def failed_timing(rows: Sequence[Row]) -> str:
    """The line that says why a timing has failed."""
    return f"The timing of {_named(rows)}: {timing_outcome(rows)}"


def _named(rows: Sequence[Row]) -> str:
    return "{engine} batch {batch_size} on {device}".format_map(rows[0])


def timing_outcome(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a timing came to, or why it failed, in a few words."""
    if rows[0]["status"] != "ok":
        return f"{rows[0]['status']}: {strings.one_line(rows[0]['reason'])}"
    ratios: dict[int | None, list[float]] = {}
    for row in rows:
        ratio = row["seconds_per_step"] / row["baseline_seconds_per_step"]
        ratios.setdefault(row["process"], []).append(ratio)
    median = statistics.median(map(statistics.median, ratios.values()))
    return f"{median:.2f} x non-private"


def _outcome(row: Mapping[str, Any]) -> str:
    if row["status"] != "ok":
        return f"{row['status']} in epoch {row['epoch']}: {strings.one_line(row['reason'])}"
    spent = "" if row["epsilon"] is None else f" at epsilon {row['epsilon']:.3g}"
    return f"{100 * row['test_accuracy']:.2f} %{spent}"
