"""`dpbench check`: the table of engines, its exit codes, and bad input."""

import json
from collections.abc import Callable

import pytest

from bench import layers_table
from dpbench import check, engines
from dpbench.engines.preflight import Preflight
from dpbench.execution import engine_checks
from dpbench.trial import Workload

MLP = "mlp --dataset digits --batch-size 32".split()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are timed elsewhere; one test here times them."""
    overheads = {"non-private": 1.0, "bookkeeping": 1.5, "opacus-ew": 0.9}

    def timed(engine: str, _workload: Workload, _data: object) -> tuple[float, float]:
        return 0.002 * overheads.get(engine, 3.0), overheads.get(engine, 3.0)

    monkeypatch.setattr(engine_checks, "_timed", timed)


@pytest.fixture
def on_layer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts the model of a line of the layers' table in place of the one that is named."""

    def put(case: str) -> None:
        def preflight(_workload: Workload, _data: object) -> Preflight:
            return layers_table.preflight(case)

        monkeypatch.setattr(engine_checks, "preflight", preflight)

    return put


def test_every_engine_has_a_line_and_the_fastest_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert check.main(MLP) == 0
    out = capsys.readouterr().out
    assert out.startswith("mlp on digits, batch size 32, 1 thread\n")
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert lines["bookkeeping"] == ["right", "3.00", "1.50"]
    assert lines["fused"] == ["is", "bookkeeping", "here"]
    assert out.rstrip().endswith("The fastest private engine that is right: opacus-ew.")


def test_a_refusal_is_below_the_table_at_80_columns(
    capsys: pytest.CaptureFixture[str], on_layer: Callable[[str], None]
) -> None:
    on_layer("Conv2d, padding_mode 'circular'")
    assert check.main(MLP) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= check.COLUMNS
    said = " ".join(out.split())
    assert "opacus-hooks: gets the clipped sum wrong by" in said
    assert "at layer '0' (Conv2d); pad before it" in said


def test_a_model_that_no_engine_can_train_is_said_once(
    capsys: pytest.CaptureFixture[str], on_layer: Callable[[str], None]
) -> None:
    on_layer("BatchNorm")
    assert check.main(MLP) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("layer '1' (BatchNorm2d) mixes the examples of a batch") == 1
    assert said.endswith("No private engine is right for this model.")


def test_json_is_one_object(
    capsys: pytest.CaptureFixture[str], on_layer: Callable[[str], None]
) -> None:
    on_layer("in-place ReLU")
    assert check.main([*MLP, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["dataset"], found["batch_size"]) == ("mlp", "digits", 32)
    of_engine = {each["engine"]: each for each in found["engines"]}
    assert of_engine["opacus-ew"]["right"]
    assert of_engine["opacus-ew"]["overhead"] == 0.9
    assert not of_engine["opacus-hooks"]["right"]
    assert of_engine["opacus-hooks"]["layer"] == "1"
    assert of_engine["opacus-hooks"]["remedy"] == "set inplace=False"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("mlpp --dataset digits", "Unknown model 'mlpp': did you mean mlp?"),
        ("mlp --dataset digit", "Unknown dataset 'digit': did you mean digits?"),
        ("mlp --dataset digits --batch-size 0", "Expected batch_size=0 >= 1"),
        ("mlp --dataset digits --batch-size 5000", "Expected batch_size=5000 <= 1,437"),
        ("mlp --dataset digits --threads 0", "Expected threads=0 >= 1"),
    ],
)
def test_bad_input_is_one_line(typed: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(typed.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_steps_are_timed_beside_the_non_private_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dpbench.measurement import step_timing

    monkeypatch.undo()
    monkeypatch.setattr(step_timing, "BLOCK_SECONDS", 0.001)
    monkeypatch.setattr(engines, "names", lambda: ("non-private", "opacus-hooks"))
    assert check.main([*MLP, "--json"]) == 0
    baseline, hooks = json.loads(capsys.readouterr().out)["engines"]
    assert baseline["overhead"] == 1
    assert hooks["overhead"] > 0
    assert hooks["seconds_per_step"] > 0
