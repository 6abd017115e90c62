"""Trials that are trained at once end as they end alone, and only like ones are stacked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import here
import pandas as pd
import pytest
import torch
from factories import WHERE, make_trial, mostly_slow, tutorial_cnn
from torch import nn

from dpbench import engines, store, sweep
from dpbench.datasets import Data, loading
from dpbench.engines.stacked import _convolved, _patches
from dpbench.errors import BadInput, TrainingError
from dpbench.execution import backend, estimate, local, stacks, trial_task
from dpbench.observations import Epoch
from dpbench.store import schema
from dpbench.training import loop
from dpbench.trial import Trial

# Relative of losses, absolute of accuracies, after two epochs: rounding, and which of two equal
# pixels a max-pooling takes, have grown by then. After five steps, weights differ by 1e-4 at most.
LOSS_TOLERANCE, ACCURACY_TOLERANCE = 2e-3, 0.01


def arms(**fields: object) -> list[Trial]:
    private = [
        make_trial("fused", noise_multiplier=noise, max_grad_norm=clip, **fields)
        for noise, clip in ((0.7, 0.5), (1.3, 1.0), (0.0, 2.0))
    ]
    fast = replace(private[0], learning_rate=0.05, momentum=0.9)
    # at larger rates training is so unstable here that engines part by a tie of two pixels
    plain = replace(make_trial("non-private", **fields), learning_rate=0.02)
    return [*private, fast, plain]


def workers(stack: int, jobs: int = 1) -> backend.Workers:
    return backend.Workers(
        data_root=Path("unused"),
        devices=("cpu",),
        jobs=jobs,
        threads=1,
        physical_batch_size=48,
        stack=stack,
    )


def test_only_trials_of_the_same_batches_are_stacked() -> None:
    same, other_seed = arms(), make_trial("fused", seed=9)
    asked = make_trial("opacus-hooks")
    made = stacks.stacks([same[0], other_seed, asked, *same[1:]], 64)
    assert made == [tuple(same), (other_seed,), (asked,)]
    other_model = replace(same[0], model="another")
    assert stacks.stacks([same[0], other_model], 64) == [(same[0],), (other_model,)]
    assert stacks.stacks(same, 2) == [tuple(same[:2]), tuple(same[2:4]), (same[4],)]
    assert stacks.stacks(same, 64, places=2) == [tuple(same[:3]), tuple(same[3:])]
    assert stacks.stacks(same, 64, places=9) == [(trial,) for trial in same]
    assert stacks.stacks(same, 1) == [(trial,) for trial in same]


@pytest.mark.parametrize("physical_batch_size", mostly_slow([None, 24], lambda it: it == 24))
def test_stacked_trials_are_those_alone(digits: Data, physical_batch_size: int | None) -> None:
    trials = arms(epochs=2)
    together = list(loop.train_stack(trials, digits, physical_batch_size=physical_batch_size))
    for index, trial in enumerate(trials):
        alone = list(loop.train(trial, digits))
        for whole, expected in zip(together, alone, strict=True):
            seen = whole[index]
            assert not isinstance(seen, TrainingError)
            assert seen.train_loss == pytest.approx(expected.train_loss, rel=LOSS_TOLERANCE)
            assert seen.test_loss == pytest.approx(expected.test_loss, rel=LOSS_TOLERANCE)
            assert seen.test_accuracy == pytest.approx(
                expected.test_accuracy, abs=ACCURACY_TOLERANCE
            )
            same = ("steps", "examples_seen", "sample_rate", "noise_derivation")
            assert [getattr(seen, name) for name in same] == [
                getattr(expected, name) for name in same
            ]


def test_steps_are_those_of_bookkeeping_to_rounding(digits: Data) -> None:
    trials = arms()
    models = [runner_model() for _ in trials]
    noise = [torch.Generator().manual_seed(seed) for seed in range(len(trials))]
    stack = engines.build_stack(trials, models, noise=noise, physical_batch_size=None)
    images, labels = digits.prepared(digits.train[0][:48]), digits.train[1][:48]
    for step in range(5):
        part = slice(8 * step, 8 * step + 8 if step != 2 else 16)  # the third is empty
        losses = stack.step(images[part], labels[part])
        assert losses.shape == (len(trials),)
    stack.write_back()
    for seed, (trial, model) in enumerate(zip(trials, models, strict=True)):
        alone = runner_model()
        engine = engines.build(
            replace(trial, engine="bookkeeping") if trial.private else trial,
            alone,
            noise=torch.Generator().manual_seed(seed),
            physical_batch_size=None,
        )
        for step in range(5):
            part = slice(8 * step, 8 * step + 8 if step != 2 else 16)
            engine.step(images[part], labels[part])
        for ours, theirs in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs.contiguous(), rtol=1e-4, atol=1e-6)


def runner_model() -> nn.Sequential:

    return tutorial_cnn(seed=1, device="cpu")


@pytest.mark.parametrize("dilation", [1, 2])
def test_patches_are_those_of_unfold(dilation: int) -> None:
    layer = nn.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=(1, 0), dilation=dilation)
    images = torch.randn(5, 3, 12, 11, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.unfold(
        images, layer.kernel_size, layer.dilation, (1, 0), layer.stride
    )
    assert torch.equal(_patches(layer, images).flatten(1, 2), expected.transpose(1, 2))


@pytest.mark.parametrize("bias", [True, False])
def test_a_product_with_patches_is_the_convolution(bias: bool) -> None:
    draws = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=(1, 0), dilation=(2, 1))
    images = torch.randn(5, 3, 12, 11, generator=draws)
    weight = torch.randn(8, 3, 3, 2, generator=draws)  # of two trials
    added = torch.randn(8, generator=draws) if bias else None
    expected = torch.nn.functional.conv2d(
        images, weight, added, layer.stride, layer.padding, layer.dilation
    )
    torch.testing.assert_close(_convolved(layer, images, weight, added), expected)


def test_one_that_diverges_does_not_stop_the_others(digits: Data) -> None:
    steady = make_trial("non-private", epochs=3)
    wild = replace(steady, learning_rate=1e6)
    whole = list(loop.train_stack([steady, wild], digits))
    assert [isinstance(seen, TrainingError) for seen, _ in whole] == [False] * 3
    assert isinstance(whole[-1][1], TrainingError)


def test_a_sweep_of_stacks_gives_each_trial_its_rows() -> None:
    trials = [trial for seed in (0, 1) for trial in arms(epochs=2, seed=seed)]
    trials.append(replace(trials[4], learning_rate=1e6))  # diverges
    with here.trials_here():
        rows = [row for rows in local.run(trials, workers(64, jobs=2)) for row in rows]
    frame = schema.table(rows, schema.TRIALS).to_pandas()
    assert set(frame["implementation"]) == {"stacked"}
    ends = frame.sort_values("epoch").groupby("trial_id").tail(1).set_index("trial_id")
    assert ends.loc[[t.trial_id for t in trials[:-1]], "status"].tolist() == ["ok"] * 10
    assert ends.loc[trials[-1].trial_id, "status"] == "failed"
    assert "diverged" in ends.loc[trials[-1].trial_id, "reason"]
    assert not frame.duplicated(["trial_id", "epoch"]).any()
    alone = pd.DataFrame(list(trial_task.run_trial(trials[0], workers(1), concurrent=0)))
    assert set(alone["stacked_trials"]) == {1}
    stacked = ends.loc[trials[0].trial_id]
    assert stacked["test_loss"] == pytest.approx(alone["test_loss"].iloc[-1], rel=LOSS_TOLERANCE)


@pytest.fixture(scope="module")
def stacked() -> tuple[list[Trial], list[dict[str, Any]]]:
    """Trials that ran as one stack, and their rows."""
    trials = [trial for trial in arms(epochs=3) if trial.engine == "fused"]
    return trials, list(trial_task.run_stack(tuple(trials), workers(64), concurrent=0))


@pytest.mark.parametrize("said", [True, False], ids=["as written", "before it was written"])
def test_a_stacks_time_is_shared_out_among_its_trials(
    said: bool, stacked: tuple[list[Trial], list[dict[str, Any]]], tmp_path: Path
) -> None:
    """By rows that hold the column, and by those of before."""
    trials, rows = stacked
    assert {row["stacked_trials"] for row in rows} == {len(trials)}
    store.create(tmp_path)
    for trial in trials:
        own = [row for row in rows if row["trial_id"] == trial.trial_id]
        store.write_trial(
            tmp_path, own if said else [row | {"stacked_trials": None} for row in own]
        )
    last = store.read_trials(tmp_path).query("epoch == epochs")
    (stack_seconds,) = set(last["train_seconds"])  # of them all at once
    throughput = last["examples_seen"].sum() / stack_seconds
    assert last["examples_per_second"].sum() == pytest.approx(throughput)
    rates = estimate.measured_rates(tmp_path, stacked=True)
    planned = sum(estimate.training_seconds(trial, rates) for trial in trials)
    assert planned == pytest.approx(stack_seconds, rel=0.5)  # the median is of all epochs
    assert rates == estimate.measured_rates(tmp_path)  # nothing was run otherwise
    assert estimate.measured_rates(tmp_path, device="cuda:0") == {}


def test_a_rate_is_of_trials_that_ran_as_they_will(tmp_path: Path) -> None:
    store.create(tmp_path)
    for seed, count in enumerate((1, 1, 1, 10)):
        row = dict.fromkeys(store.TRIALS.names) | store.trial_row(
            make_trial("fused", seed=seed),
            Epoch(epoch=1, examples_seen=100, train_seconds=1.0, examples_per_second=100.0),
            replace(WHERE, implementation="fused", stacked_trials=count),
        )
        store.write_trial(tmp_path, [row])
    assert estimate.measured_rates(tmp_path, stacked=True) == {("fused", "tutorial-cnn"): 1000.0}
    assert estimate.measured_rates(tmp_path) == {("fused", "tutorial-cnn"): 100.0}


def test_why_trials_are_not_trained_at_once_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_given: object, **_named: object) -> None:
        raise RuntimeError("no stack today")

    monkeypatch.setattr(loop, "train_stack", refuse)
    trials = arms()[:2]
    rows = list(trial_task.run_stack(tuple(trials), workers(2), concurrent=0))
    assert [row["status"] for row in rows] == ["ok"] * 2
    assert "2 trials could not be trained at once" in caplog.text
    assert "RuntimeError: no stack today" in caplog.text


def test_a_layer_that_stacks_do_not_know_is_refused() -> None:
    model = nn.Sequential(nn.GroupNorm(1, 1), nn.Flatten(), nn.Linear(784, 10))
    with pytest.raises(BadInput, match="know Linear and ungrouped"):
        engines.build_stack(
            arms()[:1], [model], noise=[torch.Generator()], physical_batch_size=None
        )


@pytest.mark.gpu
def test_on_cuda_stacked_trials_are_those_of_the_cpu(digits: Data) -> None:
    trials = [
        replace(trial, noise_multiplier=0.0) if trial.private else trial for trial in arms(epochs=1)
    ]
    on_cuda = loading.load("digits", Path("unused"), "cuda")
    (together,) = loop.train_stack(trials, on_cuda)
    for trial, seen in zip(trials, together, strict=True):
        (expected,) = loop.train(trial, digits)
        assert not isinstance(seen, TrainingError)
        assert seen.train_loss == pytest.approx(expected.train_loss, rel=LOSS_TOLERANCE)
        assert seen.test_accuracy == pytest.approx(expected.test_accuracy, abs=ACCURACY_TOLERANCE)


@pytest.mark.gpu
def test_a_whole_sweep_on_cuda(tmp_path: Path) -> None:
    grid = "--dataset digits --noise-multiplier 1 2 --max-grad-norm 1 --batch-size 64 --epochs 2"
    asked = [*grid.split(), "--device", "cuda", "--out", str(tmp_path), "--quiet"]
    assert sweep.main(asked) == 0
    trials, timings = store.read_trials(tmp_path), store.read_timings(tmp_path)
    assert set(trials["implementation"]) == {"stacked"}
    assert set(trials["device"]) == set(timings["device"]) == {"cuda:0"}
    assert (timings["peak_memory_bytes"] > 0).all()
