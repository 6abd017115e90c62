"""The public API, as a script or a notebook uses it."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import here
import pandas as pd
import pytest
from factories import ROOT
from interpreters import imports_torch

import dpbench
from dpbench import store
from dpbench.store import history

QUICK = ROOT / "results" / "mnist-quick"
SCRIPT = """
import dpbench
grid = dpbench.Grid(noise_multiplier=[1.0, 2.0], max_grad_norm=1, batch_size=256, epochs=1)
frame = dpbench.run_sweep(grid, dataset="digits", out="mine", timings=False, jobs=1, device="cpu")
print("rows", len(frame), frame["status"].unique().tolist())
"""


def run(*command: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("script", ["-", pytest.param("script.py", marks=pytest.mark.slow)])
def test_a_script_without_a_guard_sweeps_once(script: str, tmp_path: Path) -> None:
    """Workers are processes that do not import the script, so it has no `if __name__` trap.

    From stdin, no process could read it twice.
    """
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run(script, cwd=tmp_path, stdin=SCRIPT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "rows 4 ['ok']\n"  # two private trials and the baseline's two rates
    assert "[4/4 trials, 0 failed, 4/4 epochs (100 %)" in done.stderr
    (record,) = history.read(tmp_path / "mine")
    assert record.command == (
        "dpbench.run_sweep(Grid(noise_multiplier=[1.0, 2.0], max_grad_norm=1.0, batch_size=256, "
        "epochs=1), dataset='digits', out='mine', device='cpu', jobs=1, timings=False)"
    )
    assert "dpbench.run_sweep(Grid(" in (tmp_path / "mine" / "report.html").read_text()


@pytest.mark.slow  # test_sweep shows that the same command again runs what is missing
def test_a_larger_grid_trains_only_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with here.trials_here(), here.blank_figures():
        for noises in ([3.0], [3.0, 4.0]):
            frame = dpbench.run_sweep(
                dpbench.Grid(
                    noise_multiplier=noises,
                    max_grad_norm=[1],
                    batch_size=[256],
                    epochs=1,
                    baseline=False,
                ),
                dataset="digits",
                out=tmp_path,
                timings=False,
                device="cpu",
            )
    assert frame["status"].tolist() == ["ok"] * 2
    assert "2 trials on digits, 1 of them done before: 1 to run" in capsys.readouterr().err


def test_without_progress_a_sweep_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    grid = dpbench.Grid(noise_multiplier=[3], max_grad_norm=[1], batch_size=[256], epochs=1)
    with here.trials_here(), here.blank_figures():
        frame = dpbench.run_sweep(
            grid, dataset="digits", out=tmp_path, timings=False, device="cpu", progress=False
        )
    assert frame["status"].tolist() == ["ok"] * 3
    assert capfd.readouterr() == ("", "")


def test_bad_arguments_raise_bad_input(tmp_path: Path) -> None:
    with pytest.raises(dpbench.BadInput, match="did you mean opacus-hooks"):
        dpbench.Grid(engine=["opacus-hook"])
    with pytest.raises(dpbench.BadInput, match="jobs=0 >= 1"):
        dpbench.run_sweep(dataset="digits", out=tmp_path / "a", jobs=0)
    with pytest.raises(dpbench.BadInput, match="at least one trial"):
        dpbench.run_sweep([], dataset="digits", out=tmp_path / "a")
    with pytest.raises(dpbench.BadInput, match="no folder"):
        dpbench.load_store(tmp_path / "nowhere")
    with pytest.raises(dpbench.BadInput, match="engine='fast' to be one of"):
        dpbench.time_steps("fast", dataset="digits", out=tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_an_axis_takes_one_value_or_several() -> None:
    pd_axis = pd.Series([0.5, 1.0]).to_numpy()
    grid = dpbench.Grid(max_grad_norm=pd_axis, seed=range(3), noise_multiplier=[1], batch_size=[64])
    assert (grid.max_grad_norm, grid.seed) == ((0.5, 1.0), (0, 1, 2))
    assert repr(grid) == (
        "Grid(noise_multiplier=1.0, max_grad_norm=[0.5, 1.0], batch_size=64, seed=[0, 1, 2])"
    )
    assert {grid: "hashable"}[grid] == "hashable"
    default = dpbench.Grid().with_defaults("digits")
    assert (default.epochs, default.batch_size) == (20, (64, 256))
    target = dpbench.Grid(target_epsilon=[3]).with_defaults("digits")
    assert target.noise_multiplier is None


def test_steps_are_timed(tmp_path: Path) -> None:
    frame = dpbench.time_steps(
        "fused",
        dataset="digits",
        batch_size=64,
        device="cpu",
        processes=1,
        pairs=2,
        out=tmp_path,
        progress=False,
    )
    (row,) = frame.to_dict("records")
    assert (row["engine"], row["batch_size"], row["pairs"]) == ("fused", 64, 2)
    assert row["overhead_ratio_low"] <= row["overhead_ratio"] <= row["overhead_ratio_high"]
    timings = dpbench.load_store(tmp_path).timings
    assert len(timings) == 2


def test_an_audit_is_a_finding() -> None:
    finding = dpbench.run_audit("fused", canaries=64, runs=1, epochs=2, device="cpu")
    assert finding.consistent
    assert finding.claimed > 0


def test_a_store_is_two_frames_and_compares_with_itself() -> None:
    trials, timings = dpbench.load_store(QUICK)
    pd.testing.assert_frame_equal(trials, store.read_trials(QUICK))
    pd.testing.assert_frame_equal(timings, store.read_timings(QUICK))
    comparison = dpbench.compare_stores(QUICK, QUICK)
    assert comparison.verdict() == "no-regression"
    assert comparison.regressions == ()


def test_an_epsilon_is_a_number_with_its_statement() -> None:
    spent = dpbench.spent_epsilon(1.1, examples=60_000, batch_size=256, epochs=10)
    assert float(spent) == spent.epsilon == pytest.approx(0.9182, abs=1e-3)
    assert "epsilon = 0.9183" in spent.statement
    solved = dpbench.spent_epsilon(target_epsilon=3, sample_rate=0.01, steps=1000)
    assert 2.97 < solved.epsilon <= 3
    best = dpbench.spent_epsilon(4, sample_rate=0.01, steps=1000, search=20)
    assert float(best) == best.epsilon_of_search > best.epsilon  # type: ignore[operator]
    with pytest.raises(dpbench.BadInput, match="one of --noise-multiplier, --target-epsilon and"):
        dpbench.spent_epsilon(sample_rate=0.01, steps=1000)


def test_no_name_is_that_of_a_submodule_and_importing_them_changes_none() -> None:
    submodules = {each.name for each in pkgutil.iter_modules(dpbench.__path__)}
    assert submodules & set(dpbench.__all__) == set()
    before = {name: getattr(dpbench, name) for name in dpbench.__all__}
    for name in submodules - {"__main__"}:
        importlib.import_module(f"dpbench.{name}")
    assert {name: getattr(dpbench, name) for name in dpbench.__all__} == before


def test_all_names_are_there_and_no_other() -> None:
    assert set(dpbench._HOMES) | {"__version__"} == set(dpbench.__all__)
    assert set(dpbench.__all__) <= set(dir(dpbench))
    for name in dpbench.__all__:
        assert getattr(dpbench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'run_swep'"):
        _ = dpbench.run_swep  # type: ignore[attr-defined]


LIGHT = "import dpbench; dpbench.Grid(epochs=1); dpbench.{}"


@pytest.mark.parametrize("use", ["Trial", "spent_epsilon(4, sample_rate=0.01, steps=9)"])
def test_torch_is_not_loaded_until_it_is_needed(use: str, tmp_path: Path) -> None:
    assert not imports_torch(LIGHT.format(use), tmp_path)


@pytest.mark.slow  # test_sweep shows the same
def test_an_import_of_torch_would_be_seen(tmp_path: Path) -> None:
    assert imports_torch("import dpbench, dpbench.training.loop", tmp_path)


def test_importing_dpbench_imports_nothing_else(tmp_path: Path) -> None:
    heavy = "{'numpy', 'pandas', 'torch', 'scipy', 'pyarrow', 'matplotlib'}"
    done = run(
        "-c", f"import sys, dpbench; dir(dpbench); print({heavy} & set(sys.modules))", cwd=tmp_path
    )
    assert done.stdout == "set()\n", done.stderr
