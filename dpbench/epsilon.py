"""Compute the epsilon of a DP-SGD run, or the noise that a target epsilon needs.

Nothing is trained. Name the run by --examples, --batch-size and --epochs, or by --sample-rate and
--steps.

  python -m dpbench.epsilon --examples 60000 --batch-size 256 --epochs 10 --noise-multiplier 1.1
  python -m dpbench.epsilon --examples 60000 --batch-size 256 --epochs 10 --target-epsilon 3
  python -m dpbench.epsilon --sample-rate 0.01 --steps 10000 --noise-multiplier 4
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from dpbench import cli, strings
from dpbench.errors import BadInput
from dpbench.privacy import guarantee
from dpbench.trial import LEAST_NOISE, MOST_NOISE, SAMPLINGS, Sampling

JSON_VERSION = 1
_HEADER = ("noise multiplier", "epsilon", "by", "PLD", "RDP", "delta", "sample rate", "steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run whose epsilon is asked for.

    Attributes:
        sampling: How batches are drawn.
        examples: N; None where the sample rate is given instead.
        batch_size: Expected size of a batch; None where the sample rate is given instead.
        epochs: Of round(N / batch_size) steps; None where steps are given instead.
        sample_rate: Probability with which an example joins a batch; None where it is not needed.
        steps: In all; None where they are not needed.
        delta: Of (epsilon, delta)-DP.
    """

    sampling: Sampling
    examples: int | None
    batch_size: int | None
    epochs: int | None
    sample_rate: float | None
    steps: int | None
    delta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one noise multiplier spends.

    Attributes:
        noise_multiplier: Given, or solved for the target.
        target_epsilon: What it was solved for; None where it was given.
        epsilon: The smallest bound.
        accountant: Which gave it.
        epsilon_pld: By privacy loss distributions; None where they gave none.
        epsilon_rdp: By Renyi differential privacy; None for shuffled batches.
        note: Why an accountant gave no number.
        statement: A paragraph that can be put in a paper.
    """

    noise_multiplier: float
    target_epsilon: float | None
    epsilon: float
    accountant: str
    epsilon_pld: float | None
    epsilon_rdp: float | None
    note: str | None
    statement: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return cli.run(_parser(), arguments, _epsilon)


def _parser() -> cli.Parser:
    parser = cli.Parser("python -m dpbench.epsilon", __doc__, "0 all well; 2 bad input")
    run = parser.add_argument_group("the run")
    run.add_argument("--examples", type=int, metavar="N", help="size of the training set")
    run.add_argument("--batch-size", type=int, metavar="N", help="expected size of a batch")
    run.add_argument(
        "--epochs", type=int, metavar="N", help="of round(examples / batch size) steps"
    )
    run.add_argument("--sample-rate", type=float, metavar="X", help="instead: batch size over N")
    run.add_argument("--steps", type=int, metavar="N", help="instead of --epochs")
    run.add_argument(
        "--sampling",
        choices=SAMPLINGS,
        default="poisson",
        help="how batches are drawn; shuffled ones have no amplification (default: poisson)",
    )
    run.add_argument("--delta", type=float, default=1e-5, metavar="X", help="default: 1e-5")
    asked = parser.add_argument_group("what is known")
    asked.add_argument(
        "--noise-multiplier",
        type=float,
        nargs="+",
        metavar="X",
        help="noise over clipping norm; its epsilon is computed",
    )
    asked.add_argument(
        "--target-epsilon",
        type=float,
        nargs="+",
        metavar="X",
        help="instead: the least noise multiplier that spends no more is solved for",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _epsilon(given: argparse.Namespace) -> int:
    run = _run(given)
    if (given.noise_multiplier is None) == (given.target_epsilon is None):
        raise BadInput("Expected one of --noise-multiplier and --target-epsilon.")
    asked = given.noise_multiplier or given.target_epsilon
    solve = given.noise_multiplier is None
    rows = [_solved(run, value) if solve else _spent(run, value, None) for value in asked]
    warning = run.examples and guarantee.delta_warning(run.delta, run.examples)
    if given.json:
        print(
            strings.json_text(
                schema_version=JSON_VERSION,
                run=asdict(run),
                warnings=[warning] if warning else [],
                rows=[asdict(row) for row in rows],
            )
        )
        return 0
    print(strings.table(_HEADER, [_cells(run, row) for row in rows]))
    for row in rows:
        print(f"\n{row.statement}")
        if row.target_epsilon is not None:
            print(
                f"Noise multiplier {row.noise_multiplier:g} is for this {_this(run)} only: solve "
                "again when one of them changes."
            )
    if warning:
        print(f"Warning: {warning}", file=sys.stderr)
    return 0


def _run(given: argparse.Namespace) -> Run:
    """The run that the flags name.

    Raises:
        BadInput: They name none, or two, or a value is out of its range.
    """
    for name in ("examples", "batch_size", "epochs", "steps"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise BadInput(f"Expected {name}={value} >= 1.")
    if not 0 < given.delta < 1:
        raise BadInput(f"Expected delta={given.delta} > 0 and < 1.")
    if given.sample_rate is not None and not 0 < given.sample_rate <= 1:
        raise BadInput(f"Expected sample_rate={given.sample_rate} > 0 and <= 1.")
    shuffled = given.sampling == "shuffle"
    if shuffled and given.epochs is None:
        raise BadInput(
            "Expected --epochs with --sampling shuffle: an example joins a batch in each."
        )
    if given.sample_rate is not None and given.batch_size is not None:
        raise BadInput("Expected --sample-rate or --batch-size, not both.")
    if given.steps is not None and given.epochs is not None:
        raise BadInput("Expected --steps or --epochs, not both.")
    sized = given.examples is not None and given.batch_size is not None
    if sized and given.batch_size > given.examples:
        raise BadInput(f"Expected batch_size={given.batch_size} <= examples={given.examples}.")
    rate = given.batch_size / given.examples if sized else given.sample_rate
    steps = given.steps
    if steps is None and given.epochs is not None and rate is not None:
        steps = given.epochs * round(1 / rate)
    if not shuffled and (rate is None or steps is None):
        raise BadInput(
            "Expected the run by --examples, --batch-size and --epochs, or by --sample-rate and "
            "--steps."
        )
    return Run(
        sampling=given.sampling,
        examples=given.examples,
        batch_size=given.batch_size,
        epochs=given.epochs,
        sample_rate=rate,
        steps=steps,
        delta=given.delta,
    )


def _solved(run: Run, target: float) -> Row:
    from dpbench.privacy import calibration

    if not 0 < target < float("inf"):
        raise BadInput(f"Expected target_epsilon={target} > 0 and finite.")
    noise = calibration.noise_multiplier_for(
        target_epsilon=target,
        sample_rate=run.sample_rate or 1.0,
        steps=run.steps or 1,
        delta=run.delta,
        shuffled_epochs=run.epochs if run.sampling == "shuffle" else None,
    )
    return _spent(run, noise, target)


def _spent(run: Run, noise: float, target: float | None) -> Row:
    from dpbench.privacy import accounting

    if noise != 0 and not LEAST_NOISE <= noise <= MOST_NOISE:
        raise BadInput(
            f"Expected noise_multiplier={noise} to be 0 or from {LEAST_NOISE:g} to "
            f"{MOST_NOISE:,.0f}."
        )
    if run.sampling == "shuffle":
        assert run.epochs is not None
        event = accounting.shuffled_event(noise_multiplier=noise, epochs=run.epochs)
    else:
        assert run.sample_rate is not None
        assert run.steps is not None
        event = accounting.poisson_event(
            noise_multiplier=noise, sample_rate=run.sample_rate, steps=run.steps
        )
    spent = accounting.account(event, run.delta)
    return Row(
        noise_multiplier=noise,
        target_epsilon=target,
        epsilon=spent.epsilon,
        accountant=spent.accountant,
        epsilon_pld=spent.epsilon_pld,
        epsilon_rdp=spent.epsilon_rdp,
        note=spent.note,
        statement=guarantee.statement(
            guarantee.Guarantee(
                sampling=run.sampling,
                noise_multiplier=noise,
                examples=run.examples,
                batch_size=run.batch_size,
                sample_rate=run.sample_rate,
                steps=run.steps,
                epochs=run.epochs,
                epsilon=spent.epsilon,
                delta=run.delta,
                accountant=spent.accountant,
            )
        ),
    )


def _this(run: Run) -> str:
    if run.sampling == "shuffle":
        return "number of epochs and delta"
    return "sample rate (batch size over N), number of steps and delta"


def _cells(run: Run, row: Row) -> list[str]:
    return [
        f"{row.noise_multiplier:g}",
        f"{row.epsilon:.4g}",
        guarantee.ACCOUNTANTS[row.accountant] if row.accountant != "gaussian" else "exact",
        "-" if row.epsilon_pld is None else f"{row.epsilon_pld:.4g}",
        "-" if row.epsilon_rdp is None else f"{row.epsilon_rdp:.4g}",
        guarantee.short(run.delta),
        "-" if run.sample_rate is None else f"{run.sample_rate:.6g}",
        "-" if run.steps is None else f"{run.steps:,}",
    ]


if __name__ == "__main__":
    sys.exit(main())
