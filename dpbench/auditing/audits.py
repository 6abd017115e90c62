"""Audits: runs with canaries, and what they found."""

from typing import TYPE_CHECKING

from dpbench.auditing.claim import Claim

if TYPE_CHECKING:
    from dpbench.auditing.finding import Finding


def audit(claim: Claim) -> "Finding":
    """Trains the audited runs and bounds epsilon from below."""
    import numpy as np

    from dpbench.auditing.audited_run import audited_run
    from dpbench.auditing.finding import judge

    seeds = np.random.SeedSequence(claim.seed).spawn(claim.runs)
    runs = [audited_run(claim, seed) for seed in seeds]
    return judge(claim, [run.guesses for run in runs], [run.residuals for run in runs])
