"""What a worker imports before its first result: each of these took it half a second or more."""

import gc
import subprocess
import sys
from pathlib import Path

from dpbench.processes import startup

SLOW = ("dp_accounting", "matplotlib", "opacus", "pandas", "seaborn", "sklearn", "torch._dynamo")
WORKER = f"""
import sys
from pathlib import Path
from dpbench.execution import trial_task
from dpbench.execution.backend import Workers
from dpbench.trial import Trial

workers = Workers(data_root=Path(), devices=("cpu",), jobs=1, threads=1, physical_batch_size=256)
trial_task.prepare(workers)
trial = Trial(
    dataset="digits", engine="fused", sampling="shuffle", noise_multiplier=1.0, max_grad_norm=1.0,
    delta=1e-5, batch_size=256, learning_rate=0.1, epochs=1,
)
(row,) = trial_task.run((trial,), workers, 0)
print(row["status"], *(name for name in (*{SLOW}, "torch") if name in sys.modules))
"""


def test_a_worker_imports_what_it_needs_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKER], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["ok", "torch"]


def test_garbage_collection_is_as_before_after_a_command() -> None:
    before = gc.get_threshold()
    with startup.rare_garbage_collection():
        assert gc.get_threshold()[0] > before[0]
    assert gc.get_threshold() == before
