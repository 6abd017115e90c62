import json
import math
import re
import shlex
import subprocess
import sys

import pytest

from dpbench import epsilon
from dpbench.privacy import accountants, accounting, guarantee, selection
from dpbench.privacy.run_count import RunCount

MNIST = "--examples 60000 --batch-size 256 --epochs 10"


def run(arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    try:
        code = epsilon.main(shlex.split(arguments))
    except SystemExit as error:  # argparse's own
        code = int(str(error.code))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_epsilon_is_that_of_a_sweeps_rows(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(f"{MNIST} --noise-multiplier 1.1 --json", capsys)
    assert code == 0
    (row,) = json.loads(out)["rows"]
    spent = accounting.spent(
        noise_multiplier=1.1, sample_rate=256 / 60_000, steps=2_340, delta=1e-5
    )
    assert (row["epsilon"], row["epsilon_pld"]) == (spent.epsilon, spent.epsilon_pld)
    assert (row["epsilon_rdp"], row["accountant"]) == (spent.epsilon_rdp, "pld")
    assert row["epsilon"] == pytest.approx(0.9182, abs=1e-3)


def test_rate_and_steps_name_the_same_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Abadi et al. 2016, section 5: RDP 1.0355, PLD 0.9470."""
    code, out, err = run("--sample-rate 0.01 --steps 10000 --noise-multiplier 4", capsys)
    assert (code, err) == (0, "")
    assert re.search(r"^4 +0\.9471 +PLD +0\.9471 +1\.035 +1e-5 +0\.01 +10,000$", out, re.MULTILINE)
    sized = run(
        "--examples 256000000 --batch-size 2560000 --epochs 100 --noise-multiplier 4", capsys
    )
    assert re.search(r"^4 +0\.9471 ", sized[1], re.MULTILINE)


@pytest.mark.parametrize("target", [0.5, 3.0, 371.0])
def test_a_target_is_solved_and_said_to_hold_for_this_run_only(
    target: float, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(f"{MNIST} --target-epsilon {target} --json", capsys)
    assert code == 0
    (row,) = json.loads(out)["rows"]
    assert 0.99 * target <= row["epsilon"] <= target == row["target_epsilon"]
    _, text, _ = run(f"{MNIST} --noise-multiplier {row['noise_multiplier']}", capsys)
    assert "is for this" not in text
    _, text, _ = run(f"{MNIST} --target-epsilon {target}", capsys)
    assert "is for this sample rate (batch size over N), number of steps and delta only" in text


def test_shuffled_batches_have_their_own_bound(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("--sampling shuffle --epochs 10 --noise-multiplier 4", capsys)
    assert code == 0
    exact = accountants.gaussian_epsilon(10**0.5 / 4, 1e-5)
    assert f"epsilon = {exact:.3f}"[:-1] in out
    assert "whose gradient is replaced by zero" in out
    assert "No amplification by sampling is claimed." in out
    code, out, _ = run("--sampling shuffle --epochs 10 --target-epsilon 2 --json", capsys)
    assert 1.99 < json.loads(out)["rows"][0]["epsilon"] <= 2


def test_the_sentence_says_all_that_a_privacy_officer_asks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, out, _ = run(f"{MNIST} --noise-multiplier 1.1", capsys)
    paragraph = out.split("\n\n")[1].strip()
    assert "\n" not in paragraph
    for said in (
        *("DP-SGD", "N = 60,000 examples", "Poisson-sampled batches of expected size 256"),
        *("sample rate 0.00426667", "2,340 steps", "10 epochs", "noise multiplier 1.1"),
        *("epsilon = 0.9183", "delta = 1e-5", "PLD", "unit of privacy is one example"),
        *("adding or removing one example", "N is public", "below 1/N = 1.7e-05"),
        "choosing them on the same data is not included",
    ):
        assert said in paragraph, said


def test_a_stated_epsilon_is_never_rounded_down() -> None:
    for value, said in ((0.91821, "0.9183"), (2.0, "2"), (7.99999, "8"), (371.01, "371.1")):
        assert guarantee.rounded_up(value) == said
    assert guarantee.rounded_up(0.9271, 2) == "0.93"
    assert guarantee.rounded_up(2.64, 2) == "2.7"
    assert guarantee.rounded_up(math.inf, 2) == "inf"


def test_a_delta_that_publishes_examples_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(
        "--examples 1437 --batch-size 64 --epochs 10 --noise-multiplier 1 --delta 0.5", capsys
    )
    assert code == 0
    assert "Delta is not below 1/N = 0.0007, which allows a mechanism that publishes" in out
    assert "delta = 0.5 is not below 1/N = 0.0007 (N = 1,437)" in err
    assert "publishes one example in N" in err
    assert guarantee.delta_warning(1 / 1437, 1437) is not None
    assert guarantee.delta_warning(1e-5, 60_000) is None


def test_a_search_costs_more_than_a_run_and_says_what_may_be_published(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(f"{MNIST} --total-epsilon 3 --search geometric:20 --json", capsys)
    assert code == 0
    (row,) = json.loads(out)["rows"]
    each = selection.Run(
        noise_multiplier=row["noise_multiplier"], sample_rate=256 / 60_000, steps=2_340
    )
    count = RunCount(distribution="geometric", mean=20)
    assert row["epsilon_of_search"] == selection.epsilon([each], count, delta=1e-5)
    assert row["epsilon"] < 1.2
    assert 2.99 < row["epsilon_of_search"] <= 3 == row["total_epsilon"]
    for said in (
        "best of a random number of models",
        "geometric distribution with mean 20",
        "epsilon = 3 and delta = 1e-5",
        "Papernot and Steinke 2022, theorem 2",
        "one training has at most epsilon = 1.1",
        "examples that the models are scored on are not covered",
        "neither the number of models nor any other of them",
    ):
        assert said in row["statement"], said
    _, text, _ = run(f"{MNIST} --noise {row['noise_multiplier']} --search 20", capsys)
    assert "geometric:20" in text.split("\n\n")[0]
    assert row["statement"] in text


@pytest.mark.parametrize(
    "run_of", ["--sample-rate 0.01 --steps 100", "--sampling shuffle --epochs 3"]
)
def test_where_n_is_not_given_the_statement_says_which_delta_fits(
    run_of: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(f"{run_of} --noise-multiplier 1 --delta 0.5", capsys)
    assert "Delta is below 1/N only where N is below 2; N is not given." in out
    _, out, _ = run(f"{run_of} --noise-multiplier 1", capsys)
    assert "where N is below 100,000; N is not given." in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--noise-multiplier 1", "by --examples, --batch-size and --epochs, or by --sample-rate"),
        (f"{MNIST}", "one of --noise-multiplier, --target-epsilon and"),
        (f"{MNIST} --noise-multiplier 1 --target-epsilon 1", "one of --noise-multiplier, --target"),
        (f"{MNIST} --noise-multiplier -1", "noise_multiplier=-1.0 to be 0 or from 1e-12"),
        (f"{MNIST} --noise-multiplier nan", "noise_multiplier=nan"),
        (f"{MNIST} --target-epsilon 0", "target_epsilon=0.0 > 0"),
        (f"{MNIST} --target-epsilon 1 --delta 1", "delta=1.0 > 0 and < 1"),
        (f"{MNIST} --target-epsilon 1 --sample-rate 0.1", "--sample-rate or --batch-size"),
        (f"{MNIST} --target-epsilon 1 --steps 9", "--steps or --epochs"),
        ("--examples 9 --batch-size 10 --epochs 1 --noise-multiplier 1", "batch_size=10 <= exampl"),
        ("--examples 0 --batch-size 10 --epochs 1 --noise-multiplier 1", "examples=0 >= 1"),
        ("--sample-rate 2 --steps 1 --noise-multiplier 1", "sample_rate=2.0 > 0 and <= 1"),
        ("--sampling shuffle --steps 9 --noise-multiplier 1", "--epochs with --sampling shuffle"),
        (f"{MNIST} --total-epsilon 3", "--search with total_epsilon=3"),
        (f"{MNIST} --total-epsilon 0 --search 5", "total_epsilon=0.0 > 0"),
        (f"{MNIST} --noise-multiplier 1 --search many", "search='many' to be the mean number"),
        (f"{MNIST} --noise-multiplier 1 --search normal:5", "'normal' of the number of runs"),
        (f"{MNIST} --noise-multiplier 1 --search 0.5", "mean number of runs of 0.5 >= 1"),
        ("--sampling balls --epochs 1 --noise-multiplier 1", "invalid choice: 'balls'"),
    ],
)
def test_bad_input_is_one_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_no_torch_is_imported() -> None:
    code = (
        "import sys; from dpbench import epsilon;"
        f"epsilon.main({shlex.split(MNIST)} + ['--target-epsilon', '3']);"
        "assert not {'torch', 'pandas', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
