"""Writes many trials into a store, as a process that tests kill; needs no torch.

python writer.py STORE NAME COUNT writes COUNT trials of two rows each, and adds a character to
STORE/count-NAME after each.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from dpbench import store
from dpbench.observations import Environment, Epoch
from dpbench.trial import Trial

WHERE = Environment(
    dpbench_version="0",
    dpbench_commit=None,
    python_version="3",
    torch_version="2",
    opacus_version="1",
    implementation="fused",
    device="cpu",
    device_name="a processor",
    threads=1,
    memory_format="contiguous",
    physical_batch_size=None,
    workers_beside=1,
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def trial(seed: int) -> Trial:
    return Trial(
        dataset="digits",
        engine="fused",
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        batch_size=64,
        learning_rate=0.1,
        epochs=2,
        seed=seed,
        delta=1e-5,
    )


def rows(seed: int) -> list[dict[str, object]]:
    return [
        store.trial_row(
            trial(seed), Epoch(epoch=epoch, test_accuracy=0.5, epsilon=1.0, accountant="prv"), WHERE
        )
        for epoch in (1, 2)
    ]


if __name__ == "__main__":
    root, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    store.create(root)
    for seed in range(count):
        store.write_trial(root, rows(seed))
        with (root / f"count-{name}").open("a") as file:
            file.write("x")
