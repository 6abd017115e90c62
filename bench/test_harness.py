"""Gates of what surrounds the training: the sweep's workers, the store, the report."""

import itertools
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from bench import gates, sweeps
from dpbench import store
from dpbench.measurement import environment
from dpbench.observations import Epoch
from dpbench.reporting import store_report
from dpbench.trial import Trial

FILES = 100
EPOCHS = 10


@pytest.mark.gate("sweep.efficiency")
def test_efficiency(mnist_sweep: sweeps.Swept, mnist_root: Path) -> None:
    least = gates.LIMITS["sweep"]["efficiency"]
    found = mnist_sweep.efficiency
    if found < least:  # a second look
        found = max(sweeps.sweep_mnist(mnist_root).efficiency for _ in range(gates.LONGER))
    assert found >= least, f"a sweep's workers train for {100 * found:.0f} % of their time"


def rows(seed: int) -> list[dict[str, Any]]:
    """A trial's rows, as a sweep writes them."""
    where = environment.describe(
        implementation="fused",
        device="cpu",
        threads=1,
        memory_format="contiguous",
        physical_batch_size=256,
        workers_beside=0,
    )
    trial = Trial(
        dataset="digits",
        engine="fused",
        noise_multiplier=1.0 + seed % 5,
        max_grad_norm=1.0,
        batch_size=64,
        learning_rate=0.5,
        epochs=EPOCHS,
        seed=seed,
        delta=1e-5,
    )
    return [
        store.trial_row(
            trial,
            Epoch(
                epoch=epoch,
                steps=22 * epoch,
                sample_rate=64 / 1437,
                test_accuracy=0.5 + epoch / 100,
                epsilon=float(epoch),
                accountant="pld",
                dp_accounting_version="0.6.0",  # as today's rows: no older accountant is replaced
            ),
            where,
        )
        for epoch in range(1, EPOCHS + 1)
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of some trials."""
    folder = tmp_path_factory.mktemp("store")
    store.create(folder)
    for seed in range(FILES):
        store.write_trial(folder, rows(seed))
    return folder


def check(key: str, look: gates.Look, benchmark: Any) -> None:
    limit = gates.HEADROOM * gates.LIMITS["files"][key]
    benchmark.extra_info.update(gates.where(), limit=limit, **asdict(look))
    assert look.ratio <= limit, f"{key} costs {look}, not {limit:.2f}"


@pytest.mark.gate("files.write_trial")
def test_write_trial(root: Path, pairs: int, benchmark: Any) -> None:
    trial = rows(0)
    fresh = itertools.count(1)  # what is finished is not written again

    def ours() -> None:
        for _ in range(5):
            trial_id = f"{next(fresh):016x}"
            store.write_trial(root, [row | {"trial_id": trial_id} for row in trial])

    def plain() -> None:
        for _ in range(5):
            table = pa.Table.from_pylist(trial, schema=store.TRIALS)
            with (root / "plain").open("wb") as file:
                pq.write_table(table, file)
                file.flush()
                os.fsync(file.fileno())
            (root / "plain").replace(root / "renamed")

    limit = gates.HEADROOM * gates.LIMITS["files"]["write_trial"]
    look = gates.look_twice(lambda pairs: gates.against(ours, plain, pairs), limit, pairs)
    benchmark.pedantic(ours, rounds=1)
    check("write_trial", look, benchmark)


@pytest.mark.gate("files.read_trials")
def test_read_trials(root: Path, pairs: int, benchmark: Any) -> None:
    def ours() -> None:
        store.read_trials(root)

    def plain() -> None:
        files = sorted((root / "trials").glob("*.parquet"))
        pa.concat_tables([pq.read_table(file) for file in files]).to_pandas()

    limit = gates.HEADROOM * gates.LIMITS["files"]["read_trials"]
    look = gates.look_twice(lambda pairs: gates.against(ours, plain, pairs), limit, pairs)
    benchmark.pedantic(ours, rounds=1)
    check("read_trials", look, benchmark)


@pytest.mark.gate("files.report")
def test_report(root: Path, tmp_path: Path, benchmark: Any) -> None:
    def ours() -> None:
        store_report.write_report(root)

    store_report.write_report(root)
    drawn = len(list(root.glob("*.png")))
    assert drawn > 2

    def plain() -> None:
        for _ in range(drawn):
            figure = Figure(figsize=(4.6, 4.0), layout="constrained", dpi=150)
            panel = figure.subplots()
            for line in range(5):
                panel.plot(
                    range(1, EPOCHS + 1), [line + epoch for epoch in range(EPOCHS)], marker="o"
                )
            panel.scatter(range(FILES * EPOCHS), range(FILES * EPOCHS))
            for suffix in (".svg", ".png"):
                figure.savefig(tmp_path / f"plain{suffix}")

    limit = gates.HEADROOM * gates.LIMITS["files"]["report"]
    look = gates.look_twice(lambda pairs: gates.against(ours, plain, pairs), limit, 3)
    benchmark.pedantic(ours, rounds=1)
    check("report", look, benchmark)
