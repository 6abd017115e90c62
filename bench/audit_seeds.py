"""python bench/audit_seeds.py: what the audit finds over seeds, with and without planted defects.

Audits each engine as it is and with each defect, over seeds, at the audit's defaults; and judges
simulated games of a correct mechanism: coins, memberships and Gaussian noise without a model, put
through the same bounds. Exits with 3 where the audit is not what is wanted of it.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from dpbench import cli, strings
from dpbench.auditing.audited_run import GUESSED
from dpbench.auditing.audits import audit
from dpbench.auditing.claim import BREAKS, PARAMETERS, Break, Claim, default_batch_size
from dpbench.auditing.finding import Finding, judge
from dpbench.auditing.one_run import Guesses, guess
from dpbench.auditing.residuals import Residuals
from dpbench.measurement import environment

ENGINES: tuple[str, ...] = ("fused", "bookkeeping")
WANTED_BY_GUESSES = 0.6  # of the claim, on average over a correct engine's seeds
WANTED_BY_NOISE = 0.95
WANTED_REFUTED = 0.95  # of audits of an engine with a defect


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """An engine, as it is or with a defect, over all seeds; bounds are over the claim."""

    engine: str
    broken: str | None
    audits: int
    refuted: int
    correlated: int
    by_noise: float
    by_guesses: float
    any_mechanism: float


def arm(claim: Claim, findings: Sequence[Finding]) -> Arm:
    """The means and counts of an arm's findings."""

    def mean(field: str) -> float:
        return float(np.mean([getattr(each, field) / each.claimed for each in findings]))

    return Arm(
        engine=claim.engine,
        broken=claim.broken,
        audits=len(findings),
        refuted=sum(not each.consistent for each in findings),
        correlated=sum(not each.independent for each in findings),
        by_noise=mean("noise_bound"),
        by_guesses=mean("family_bound"),
        any_mechanism=mean("any_bound"),
    )


def as_wanted(arms: Sequence[Arm], games_refuted: int) -> bool:
    """Whether correct engines stand, close to their claims, and defects do not."""
    correct = [each for each in arms if each.broken is None]
    return (
        games_refuted == 0
        and all(each.refuted == 0 for each in correct)
        and all(each.by_noise >= WANTED_BY_NOISE for each in correct)
        and all(each.by_guesses >= WANTED_BY_GUESSES for each in correct)
        and all(each.refuted >= WANTED_REFUTED * each.audits for each in arms if each.broken)
    )


def claim_for(engine: str, broken: Break | None) -> Claim:
    """The command's default."""
    size = default_batch_size(Claim(engine=engine).canaries, broken)
    return Claim(engine=engine, broken=broken, batch_size=size)


def game(claim: Claim, rng: np.random.Generator) -> Finding:
    """A correct mechanism's finding, if no canary's gradient meets another's.

    A step shows each canary's membership with noise, and noise alone in all other dimensions.
    """
    guesses: list[Guesses] = []
    residuals: list[Residuals] = []
    noise, rate = claim.noise_multiplier, claim.sample_rate
    dimensions = PARAMETERS - claim.canaries
    for _ in range(claim.runs):
        coins = rng.random(claim.canaries) < 0.5
        members = (rng.random((claim.steps, claim.canaries)) < rate) & coins
        seen = members + noise * rng.standard_normal(members.shape)
        ratios = (2 * seen - 1) / (2 * noise**2)
        if rate < 1:
            ratios = np.logaddexp(np.log1p(-rate), np.log(rate) + ratios)
        guesses.append(guess(ratios.sum(axis=0), coins, GUESSED))
        alone = noise * rng.standard_normal((claim.steps, dimensions), dtype=np.float32)
        residuals.append(
            Residuals(
                vectors=alone,
                squares=float((alone.astype(np.float64) ** 2).sum()),
                dimensions=dimensions,
                steps=claim.steps,
            )
        )
    return judge(claim, guesses, residuals)


def table(arms: Sequence[Arm]) -> str:
    """In Markdown: an arm a line."""
    lines = [
        "| engine | planted defect | refuted | by noise | by guesses | any mechanism |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.engine} | {each.broken or 'none'} | {each.refuted} of {each.audits} | "
        f"{each.by_noise:.2f} | {each.by_guesses:.2f} | {each.any_mechanism:.2f} |"
        for each in arms
    ]
    return "\n".join(lines)


def sentence(members: str, games: Arm) -> str:
    """What simulated games of a correct mechanism gave."""
    return (
        f"{games.audits} simulated games of a correct mechanism, {members} of the canaries in a "
        f"batch: {games.refuted} refuted, by noise {games.by_noise:.2f} and by guesses "
        f"{games.by_guesses:.2f} of the claim."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = cli.Parser("python bench/audit_seeds.py", __doc__, "0 as wanted; 3 not")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)), metavar="N")
    parser.add_argument("--games", type=int, default=200, metavar="N", help="(default: 200)")
    parser.add_argument(
        "--short",
        action="store_true",
        help="one seed of fused, as it is and with noise-0.8, and a few games",
    )
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    return cli.run(parser, arguments, _run)


def _run(given: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    start, machine = time.process_time(), environment.machine()
    seeds, games = (given.seeds[:1], 4) if given.short else (given.seeds, given.games)
    claims = [claim_for(engine, broken) for engine in ENGINES for broken in (None, *BREAKS)]
    if given.short:
        claims = [claim_for("fused", None), claim_for("fused", "noise-0.8")]
    arms, audits = [], []
    for claim in claims:
        findings = [audit(replace(claim, seed=seed)) for seed in seeds]
        arms.append(arm(claim, findings))
        about = {"engine": claim.engine, "broken": claim.broken}
        audits += [
            about | {"seed": seed} | asdict(each)
            for seed, each in zip(seeds, findings, strict=True)
        ]
    simulated = {}
    for members in ("all", "half"):  # of the canaries in a batch
        claim = Claim(engine="fused")
        if members == "half":
            claim = replace(claim, batch_size=claim.canaries // 2)
        rng = np.random.default_rng(given.seeds[0])
        found = [game(claim, rng) for _ in range(games if members == "all" else games // 4)]
        simulated[members] = arm(claim, found)
    refuted = sum(each.refuted for each in simulated.values())
    if given.json:
        print(
            strings.json_text(
                claim=asdict(Claim(engine="fused")),
                seeds=seeds,
                machine=machine,
                cpu_seconds=time.process_time() - start,
                arms=[asdict(each) for each in arms],
                simulated={members: asdict(each) for members, each in simulated.items()},
                audits=audits,
            )
        )
    else:
        print(table(arms))
        for members, each in simulated.items():
            print(sentence(members, each))
    return 0 if given.short or as_wanted(arms, refuted) else cli.EXIT_REGRESSION


if __name__ == "__main__":
    sys.exit(main())
