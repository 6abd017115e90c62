"""Train with canaries and report lower bounds on epsilon: an audit that could find us wrong.

An engine claims an epsilon. An audited run trains it on canaries, each in or out by a coin, and
looks at every iterate. It measures the noise where no canary's gradient reaches, tests that the
noise of different steps is independent, and guesses coins: privacy as claimed bounds how many
guesses can be right. Audited runs are separate from accuracy runs, and write nothing.
"""

import argparse
import math
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from dpbench import cli, strings
from dpbench.auditing.claim import BREAKS, Claim, default_batch_size
from dpbench.errors import BadInput
from dpbench.measurement import devices
from dpbench.trial import PRIVATE_ENGINES, EngineName

if TYPE_CHECKING:
    from dpbench.auditing.one_run import Guesses
    from dpbench.auditing.residuals import Residuals

# What each column assumes. The first is the tightest and assumes most.
BOUNDS = {
    "by noise": (
        "what DP-SGD with no more noise than was measured must spend. Assumes that a step adds up "
        "clipped gradients and Gaussian noise, independent of all before, equally strong in every "
        "parameter and step. Of this only that the steps' noise is uncorrelated is tested. Sees no "
        "defect of clipping or sampling."
    ),
    "by guesses": (
        "from how many coins were guessed rightly. Assumes that the run is as private as DP-SGD "
        "with some noise, however it comes about. Above the claim, it refutes the claim's whole "
        "privacy curve, at some delta, whatever the step is."
    ),
    "any mechanism": "from the same guesses. Assumes nothing about the step.",
}
VERDICT = (
    "A claim is refuted where a bound exceeds it, or where the noise of two steps is correlated. "
    "All of this holds together with the confidence given: each of the two guess bounds has "
    "49.8 % of the allowed error, the bound by noise and the test of correlation 0.2 % each."
)
THREAT_MODEL = (
    "white box. Whoever guesses chose the examples, the initial weights and the "
    "learning rate and sees every iterate, but sees no coin, no batch and no noise."
)


SHARE = 0.002  # of the allowed error, for each statement about the noise: it costs them little
FINE = 0.001  # what the epsilon of the measured noise is rounded by, at most, about


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What an audit found.

    Attributes:
        claimed: Epsilon of the accountant at the audit's delta.
        lower_bound: The largest of the three bounds below, which hold together, and with the test
            of independence, with the audit's confidence.
        noise_bound: Epsilon of DP-SGD with noise multiplier `measured_noise`. A bound on epsilon if
            each step is the clipped sum and Gaussian noise, alike in all parameters and steps and
            independent of all before.
        measured_noise: An upper bound on the noise multiplier, under the same assumption.
        family_bound: Epsilon of the least noise that is refuted by the trade-off function of the
            mechanism (Mahloujifar et al. 2024): if the step is the mechanism with some noise, its
            epsilon is larger. 0 where nothing is refuted. Where it exceeds the claim, the claimed
            mechanism's trade-off function is refuted for any step.
        any_bound: A bound on epsilon of any mechanism at all (Steinke et al. 2023).
        correlation: The largest, in absolute value, of two steps' noise.
        independent: Whether one so large may be chance.
        canaries: Of all runs.
        made: Guesses, in all runs.
        right: Of those.
    """

    claimed: float
    lower_bound: float
    noise_bound: float
    measured_noise: float
    family_bound: float
    any_bound: float
    correlation: float
    independent: bool
    canaries: int
    made: int
    right: int

    @property
    def consistent(self) -> bool:
        """Whether the claim stands."""
        return self.lower_bound <= self.claimed and self.independent

    @property
    def verdict(self) -> str:
        """In words."""
        if self.lower_bound > self.claimed:
            return "NOT AS PRIVATE AS CLAIMED"
        return "consistent" if self.independent else "NOISE OF STEPS CORRELATED"


def audit(claim: Claim) -> Finding:
    """Trains the audited runs and bounds epsilon from below."""
    import numpy as np

    from dpbench.auditing.audited_run import audited_run

    seeds = np.random.SeedSequence(claim.seed).spawn(claim.runs)
    runs = [audited_run(claim, seed) for seed in seeds]
    return judge(claim, [run.guesses for run in runs], [run.residuals for run in runs])


def judge(
    claim: Claim, guesses: Sequence["Guesses"], noise_alone: Sequence["Residuals"]
) -> Finding:
    """The bounds that the guesses and the residuals of all runs give."""
    from dpbench.auditing import one_run, residuals, trade_off
    from dpbench.privacy import accounting

    curve = partial(trade_off.curve, sample_rate=claim.sample_rate, steps=claim.steps)
    error = 1 - claim.confidence
    of_noise = 1 - SHARE * error
    of_guesses = 1 - (1 - 2 * SHARE) / 2 * error  # there are two of each

    measured = residuals.noise_bound(noise_alone, confidence=of_noise)
    # less than this is not told apart from none; more noise is a lower epsilon, so still a bound
    least = max(measured, claim.noise_multiplier / one_run.NOISE_SPAN)
    noise_bound = 0.0
    if math.isfinite(measured):
        noise_bound = curve(noise_multiplier=least, rounding=FINE).epsilon(claim.delta)
    correlation, p_value = residuals.dependence(noise_alone)

    refuted = one_run.noise_bound(
        guesses,
        lambda noise: curve(noise_multiplier=noise),
        claimed=claim.noise_multiplier,
        confidence=of_guesses,
    )
    family_bound = 0.0 if refuted is None else curve(noise_multiplier=refuted).epsilon(claim.delta)
    any_bound = one_run.epsilon_bound(guesses, delta=claim.delta, confidence=of_guesses)
    spent = accounting.spent(
        noise_multiplier=claim.noise_multiplier,
        sample_rate=claim.sample_rate,
        steps=claim.steps,
        delta=claim.delta,
    )
    return Finding(
        claimed=spent.epsilon,
        lower_bound=max(noise_bound, family_bound, any_bound),
        noise_bound=noise_bound,
        measured_noise=measured,
        family_bound=family_bound,
        any_bound=any_bound,
        correlation=correlation,
        independent=p_value > SHARE * error,
        canaries=sum(run.canaries for run in guesses),
        made=sum(run.made for run in guesses),
        right=sum(run.right for run in guesses),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    try:
        return cli.run(_parser(), arguments, _audit)
    except KeyboardInterrupt:
        print("\nInterrupted; an audit keeps nothing, so start it again.", file=sys.stderr)
        return cli.EXIT_INTERRUPTED


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "python -m dpbench.audit",
        "\n".join([str(__doc__), "Lower bounds on epsilon, by column:", *_explained()]),
        "0 no claim refuted; 2 bad input; 3 a claim is refuted; 130 interrupted",
    )
    claim = parser.add_argument_group("the claim")
    claim.add_argument(
        "--engine",
        nargs="+",
        default=list(PRIVATE_ENGINES),
        metavar="NAME",
        help="default: all that are private",
    )
    defaults = Claim(engine=PRIVATE_ENGINES[0])
    for name, kind, text in (
        ("noise_multiplier", float, "noise over clipping norm"),
        ("max_grad_norm", float, "clipping norm of an example's gradient"),
        ("epochs", int, "of canaries / batch_size steps"),
        ("delta", float, "at which epsilon is claimed and bounded"),
    ):
        claim.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            default=getattr(defaults, name),
            metavar="X" if kind is float else "N",
            help=f"{text} (default: %(default)g)",
        )
    claim.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="expected size of Poisson batches of all canaries, in or out (default: all of them, "
        "in every step; half of them with --break noise-once-per-epoch)",
    )
    looking = parser.add_argument_group("the audit")
    for name, kind, text in (
        ("canaries", int, "in each run; they are the whole dataset"),
        ("runs", int, "independent runs, each with its own canaries, coins and noise"),
        ("confidence", float, "with which all bounds hold together"),
        ("seed", int, "of everything random"),
    ):
        looking.add_argument(
            f"--{name}",
            type=kind,
            default=getattr(defaults, name),
            metavar="X" if kind is float else "N",
            help=f"{text} (default: %(default)g)",
        )
    looking.add_argument(
        "--device", default="auto", metavar="NAME", help="auto, cpu or cuda:N (default: auto)"
    )
    looking.add_argument(
        "--break",
        dest="broken",
        choices=BREAKS,
        help="plant a defect in the engine while its claim stays, which the audit must find: "
        "noise at 0.8 or half of the claim, only in the first step of an epoch, or the same in "
        "every step; no clipping",
    )
    looking.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _explained() -> list[str]:
    """The columns, the verdict and the threat model in lines of the terminal."""
    texts = [f"{column}: {text}" for column, text in BOUNDS.items()]
    return [
        line
        for text in (*texts, f"Verdict: {VERDICT}", f"Threat model: {THREAT_MODEL}")
        for line in textwrap.wrap(text, strings.LINE_CHARACTERS, subsequent_indent="  ")
    ]


_FIELDS = (
    *("noise_multiplier", "max_grad_norm", "batch_size", "epochs", "delta"),
    *("canaries", "runs", "confidence", "seed", "broken"),
)


def _audit(given: argparse.Namespace) -> int:
    """Audits each engine and prints what was found as it is found."""
    names: list[EngineName] = given.engine
    if len(set(names)) < len(names):
        raise BadInput(f"Expected each engine once, not {' '.join(names)}.")
    if given.batch_size is None:
        given.batch_size = default_batch_size(given.canaries, given.broken)
    shared = {field: getattr(given, field) for field in _FIELDS}
    claims = [Claim(engine=name, **shared) for name in names]  # all are checked before any is run
    (device,) = devices.resolve([given.device])
    import torch

    torch.set_num_threads(1)  # as in a sweep; more are no faster, and slow beside other work
    if not given.json:
        print(
            f"{'engine':17} {'claimed epsilon':>15} {'by noise':>9} {'by guesses':>11} "
            f"{'any mechanism':>14} {'confidence':>11} {'canaries':>9} "
            f"{'right/guessed':>14}  verdict"
        )
    rows = []
    for claim in claims:
        finding = audit(replace(claim, device=device))
        rows.append(
            {"engine": claim.engine}
            | asdict(finding)
            | {"confidence": claim.confidence, "consistent": finding.consistent}
            | {"verdict": finding.verdict}
        )
        if not given.json:
            print(
                f"{claim.engine:17} {finding.claimed:15.2f} {finding.noise_bound:9.2f} "
                f"{finding.family_bound:11.2f} {finding.any_bound:14.2f} "
                f"{100 * claim.confidence:9.3g} % {finding.canaries:9,} "
                f"{f'{finding.right}/{finding.made}':>14}  {finding.verdict}",
                flush=True,
            )
    if given.json:
        texts = {"bounds": BOUNDS, "verdicts": VERDICT, "threat_model": THREAT_MODEL}
        print(strings.json_text(**shared, device=device, **texts, rows=rows))
    else:
        print(*_explained(), sep="\n")
    consistent = all(row["consistent"] for row in rows)
    return 0 if consistent else cli.EXIT_REGRESSION


if __name__ == "__main__":
    sys.exit(main())
