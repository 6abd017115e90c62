"""Audits of models other than the tutorial's: canaries of any shape, users' models among them."""

import pytest
from factories import TESTS

import dpbench
from dpbench import audit
from dpbench.auditing import audited_tasks
from dpbench.errors import BadInput

EXAMPLES = TESTS / "examples"
SMALL = {"canaries": 32, "runs": 2, "epochs": 8, "noise_multiplier": 1.0}


@pytest.mark.parametrize(
    ("data", "model", "arguments"),
    [
        ("tabular.py:load", "tabular.py:make", {"width": 16}),
        ("text.py:load", "text.py:Classifier", {}),
        ("digits.py:load", "lstm.py:RowsClassifier", {}),
    ],
)
def test_a_users_model_is_audited(data: str, model: str, arguments: dict[str, int]) -> None:
    given = {
        "model": f"{EXAMPLES}/{model}",
        "model_args": arguments,
        "dataset": f"{EXAMPLES}/{data}",
        "data_root": EXAMPLES,
    }
    found = dpbench.run_audit(**given, **SMALL)  # type: ignore[arg-type]
    assert found.consistent, found.verdict
    assert found.noise_bound > 0.5 * found.claimed
    assert found.family_bound > 0
    planted = dpbench.run_audit(**given, **SMALL, broken="noise-halved")  # type: ignore[arg-type]
    assert not planted.consistent


def test_the_engines_are_those_that_can_train_it() -> None:
    task = audited_tasks.task("mlp", None, "breast-cancer", None)
    assert task is not None
    assert "fused" not in audited_tasks.audited_engines(task)
    assert audited_tasks.fastest(task) == "bookkeeping"
    assert audited_tasks.task(None, None, None, None) is None


def test_more_canaries_than_parameters_are_refused() -> None:
    with pytest.raises(BadInput, match=r"the trained parameters of tabular\.py:make"):
        dpbench.run_audit(
            model=f"{EXAMPLES}/tabular.py:make",
            dataset=f"{EXAMPLES}/tabular.py:load",
            model_args={"width": 2},
            data_root=EXAMPLES,
        )


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    model = f"{EXAMPLES}/tabular.py:make"
    assert audit.main(["--model", model, "--model-args", "width=1,2"]) == 2
    assert "one value of width to audit, not 2" in capsys.readouterr().err
    assert audit.main(["--model", "mlp", "--model-args", "width=1"]) == 2
    assert "built-in models take no arguments" in capsys.readouterr().err
