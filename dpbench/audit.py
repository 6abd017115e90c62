"""Train with canaries and report a lower bound on epsilon: an audit that could find us wrong.

An engine claims an epsilon. An audited run trains it on canaries, each in or out by a coin, looks
at every iterate and guesses coins: privacy as claimed bounds how many guesses can be right. Audited
runs are separate from accuracy runs, and write nothing.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from dpbench import command
from dpbench.audits.claim import BREAKS, Claim
from dpbench.trial import PRIVATE_ENGINES, BadInput, EngineName

if TYPE_CHECKING:
    from dpbench.audits.one_run import Guesses

BOUNDS = (
    "Lower bound: of epsilon, if the step is DP-SGD with some noise. Any mechanism: of epsilon, "
    "whatever the step is. The claim is the whole privacy curve of DP-SGD with its noise: where "
    "the lower bound exceeds it, the step is less private than that curve at some delta, whatever "
    "it is."
)
THREAT_MODEL = (
    "Threat model: white box. Whoever guesses chose the examples, the initial weights and the "
    "learning rate and sees every iterate, but sees no coin, no batch and no noise."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What an audit found.

    Attributes:
        claimed: Epsilon of the accountant at the audit's delta.
        lower_bound: The larger of the two bounds below, each of which holds with half the allowed
            error, so that this one holds with the audit's confidence. A bound on epsilon only if
            the step is DP-SGD with some noise, as `family_bound` is. Where it exceeds the claim,
            the claimed mechanism's trade-off function is refuted for any step.
        family_bound: Epsilon of the least noise that is refuted by the trade-off function of the
            mechanism (Mahloujifar et al. 2024): if the step is the mechanism with some noise, its
            epsilon is larger. 0 where nothing is refuted.
        any_bound: A bound on epsilon of any mechanism at all (Steinke et al. 2023).
        canaries: Of all runs.
        made: Guesses, in all runs.
        right: Of those.
    """

    claimed: float
    lower_bound: float
    family_bound: float
    any_bound: float
    canaries: int
    made: int
    right: int

    @property
    def consistent(self) -> bool:
        """Whether the claim stands."""
        return self.lower_bound <= self.claimed


def audit(claim: Claim) -> Finding:
    """Trains the audited runs and bounds epsilon from below."""
    import numpy as np

    from dpbench.audits.audited_run import audited_run

    seeds = np.random.SeedSequence(claim.seed).spawn(claim.runs)
    return judge(claim, [audited_run(claim, seed) for seed in seeds])


def judge(claim: Claim, runs: Sequence["Guesses"]) -> Finding:
    """The bounds that the runs' guesses give."""
    from dpbench import accounting
    from dpbench.audits import one_run, trade_off

    def curve(noise_multiplier: float) -> trade_off.Curve:
        return trade_off.curve(
            noise_multiplier=noise_multiplier, sample_rate=claim.sample_rate, steps=claim.steps
        )

    each = (1 + claim.confidence) / 2  # both bounds are looked at, so each may err half as often
    noise = one_run.noise_bound(runs, curve, claimed=claim.noise_multiplier, confidence=each)
    family_bound = 0.0 if noise is None else curve(noise).epsilon(claim.delta)
    any_bound = one_run.epsilon_bound(runs, delta=claim.delta, confidence=each)
    spent = accounting.spent(
        noise_multiplier=claim.noise_multiplier,
        sample_rate=claim.sample_rate,
        steps=claim.steps,
        delta=claim.delta,
    )
    return Finding(
        claimed=spent.epsilon,
        lower_bound=max(family_bound, any_bound),
        family_bound=family_bound,
        any_bound=any_bound,
        canaries=sum(run.canaries for run in runs),
        made=sum(run.made for run in runs),
        right=sum(run.right for run in runs),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    try:
        return command.run(_parser(), arguments, _audit)
    except KeyboardInterrupt:
        print("\nInterrupted; an audit keeps nothing, so start it again.", file=sys.stderr)
        return command.EXIT_INTERRUPTED


def _parser() -> command.Parser:
    parser = command.Parser(
        "python -m dpbench.audit",
        __doc__,
        "0 no claim refuted; 2 bad input; 3 a lower bound exceeds its claim; 130 interrupted",
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
        ("batch_size", int, "expected size of Poisson batches of all canaries, in or out"),
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
    looking = parser.add_argument_group("the audit")
    for name, kind, text in (
        ("canaries", int, "in each run; they are the whole dataset"),
        ("runs", int, "independent runs, each with its own canaries, coins and noise"),
        ("confidence", float, "with which the bound holds"),
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
        help="plant a defect in the engine while its claim stays: the audit must find it",
    )
    looking.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


_FIELDS = (
    *("noise_multiplier", "max_grad_norm", "batch_size", "epochs", "delta"),
    *("canaries", "runs", "confidence", "seed", "broken"),
)


def _audit(given: argparse.Namespace) -> int:
    """Audits each engine and prints what was found as it is found."""
    names: list[EngineName] = given.engine
    if len(set(names)) < len(names):
        raise BadInput(f"Expected each engine once, not {' '.join(names)}.")
    shared = {field: getattr(given, field) for field in _FIELDS}
    claims = [Claim(engine=name, **shared) for name in names]  # all are checked before any is run
    (device,) = command.devices([given.device])
    import torch

    torch.set_num_threads(1)  # as in a sweep; more are no faster, and slow beside other work
    if not given.json:
        print(
            f"{'engine':17} {'claimed epsilon':>15} {'lower bound':>12} {'any mechanism':>14} "
            f"{'confidence':>11} {'canaries':>9} {'right/guessed':>14}  verdict"
        )
    rows = []
    for claim in claims:
        finding = audit(replace(claim, device=device))
        rows.append(
            {"engine": claim.engine}
            | asdict(finding)
            | {"confidence": claim.confidence, "consistent": finding.consistent}
        )
        if not given.json:
            print(
                f"{claim.engine:17} {finding.claimed:15.2f} {finding.lower_bound:12.2f} "
                f"{finding.any_bound:14.2f} {100 * claim.confidence:9.3g} % {finding.canaries:9,} "
                f"{f'{finding.right}/{finding.made}':>14}  "
                + ("consistent" if finding.consistent else "NOT AS PRIVATE AS CLAIMED"),
                flush=True,
            )
    if given.json:
        texts = {"bounds": BOUNDS, "threat_model": THREAT_MODEL}
        print(json.dumps(shared | {"device": device} | texts | {"rows": rows}))
    else:
        print(BOUNDS, THREAT_MODEL, sep="\n")
    consistent = all(row["consistent"] for row in rows)
    return 0 if consistent else command.EXIT_REGRESSION


if __name__ == "__main__":
    sys.exit(main())
