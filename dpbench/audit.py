"""Find steps that are less private than they claim: lower bounds on epsilon.

An engine claims an epsilon. An audited run trains it on canaries, each in or out by a coin, and
reads every iterate. It measures the noise in the directions that no canary's gradient has, tests
that the noise of different steps is uncorrelated, and guesses coins: the claimed privacy bounds how
many guesses can be right. Audited runs are separate from accuracy runs, and write nothing.
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from dpbench import cli, console, engines, strings
from dpbench.auditing.audits import audit
from dpbench.auditing.bounds import BOUNDS, THREAT_MODEL, VERDICT
from dpbench.auditing.claim import BREAKS, Claim, default_batch_size
from dpbench.datasets import resolution
from dpbench.errors import BadInput
from dpbench.execution import audits
from dpbench.measurement import devices
from dpbench.privacy import guarantee

if TYPE_CHECKING:
    from dpbench.auditing.finding import Finding


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m dpbench.audit") -> int:
    """Runs the command; returns its exit code."""
    try:
        return cli.run(_parser(prog), arguments, _audit)
    except KeyboardInterrupt:
        console.say("\nInterrupted; an audit keeps nothing, so start it again.")
        return cli.EXIT_INTERRUPTED


_COMMON = {
    "the claim:": {
        "--engine": "default: all private ones that train it",
        "--model": "default: tutorial-cnn; or FILE.py:make",
        "--dataset": "whose inputs canaries are like",
        "--noise-multiplier": "noise over clipping norm (default: %(default)s)",
        "--max-grad-norm": "of an example's gradient (default: %(default)s)",
        "--batch-size": "default: all canaries",
        "--epochs": "of canaries / batch_size steps (default: %(default)s)",
    },
    "the audit:": {
        "--canaries": "they are the whole dataset (default: %(default)s)",
        "--runs": "independent ones (default: %(default)s)",
        "--device": "auto, cpu or cuda:N (default: auto)",
        "--break": "plant a defect to be found (default: none)",
        "--json": "print one JSON object (default: text)",
    },
}


def _parser(prog: str) -> cli.Parser:
    parser = cli.Parser(
        prog,
        str(__doc__).partition("\n\n")[0],
        "0 no claim refuted; 2 bad input; 3 a claim is refuted; 130 interrupted",
        examples=(
            "--engine fused",
            "--engine fused --break noise-halved   # what an audit must find",
        ),
        common=_COMMON,
        details="\n".join(
            [
                str(__doc__).partition("\n\n")[2].strip() + "\n",
                "Lower bounds on epsilon, by column:",
                *_explained(),
            ]
        ),
    )
    claim = parser.add_argument_group("the claim")
    claim.add_argument(
        "--engine",
        nargs="+",
        metavar="NAME",
        help="default: all that are private and can train the model",
    )
    cli.add_task_flags(claim, dataset=None)
    defaults = Claim(engine=engines.private_names()[0])
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
        "every step; no clipping (default: none)",
    )
    looking.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _explained() -> list[str]:
    """The columns, the verdict and the threat model in lines of the terminal."""
    texts = [f"{column}: {text}" for column, text in BOUNDS.items()]
    return [
        line
        for text in (*texts, f"Verdict: {VERDICT}", f"Threat model: {THREAT_MODEL}")
        for line in textwrap.wrap(text, console.LINE, subsequent_indent="  ")
    ]


_FIELDS = (
    *("noise_multiplier", "max_grad_norm", "batch_size", "epochs", "delta"),
    *("canaries", "runs", "confidence", "seed", "broken"),
)


def _audit(given: argparse.Namespace) -> int:
    """Audits each engine and prints a line as soon as its audit has ended."""
    root = resolution.data_root(given.data_root)
    task = audits.audited_task(given.model, given.model_args, given.dataset, given.loss, root)
    names = audits.audited_engines(task, root, given.engine)
    if len(set(names)) < len(names):
        raise BadInput(f"Expected each engine once, not {' '.join(names)}.")
    if given.batch_size is None:
        given.batch_size = default_batch_size(given.canaries, given.broken)
    shared = {field: getattr(given, field) for field in _FIELDS}
    claims = [
        Claim(engine=name, task=task, data_root=root, **shared) for name in names
    ]  # all are checked before any is run
    (device,) = devices.resolve([given.device])
    if warning := guarantee.delta_warning(given.delta, given.canaries):
        console.say(f"Warning: {warning}")
    import torch

    torch.set_num_threads(1)  # as in a sweep; more are no faster, and slow beside other work
    if not given.json:
        print(_title(claims[0]), _HEADER, sep="\n")
    findings = []
    for claim in claims:
        findings.append(audit(replace(claim, device=device)))
        if not given.json:
            print(_line(claim, findings[-1]), flush=True)
    if given.json:
        rows = [_row(claim, found) for claim, found in zip(claims, findings, strict=True)]
        texts = {"bounds": BOUNDS, "verdicts": VERDICT, "threat_model": THREAT_MODEL}
        of_task = None if task is None else asdict(task)
        print(strings.json_text(**shared, task=of_task, device=device, **texts, rows=rows))
    else:
        print(*_explained(), sep="\n")
    return 0 if all(found.consistent for found in findings) else cli.EXIT_REGRESSION


_HEADER = (
    f"{'engine':16} {'claimed':>7} {'noise':>5} {'guesses':>7} {'any':>5} {'right':>8}  verdict"
)


def _title(claim: Claim) -> str:
    """What the columns are of, in a line."""
    return (
        f"Epsilon claimed, and at least, with {100 * claim.confidence:.3g} % confidence; "
        f"{claim.canaries * claim.runs:,} canaries:"
    )


def _line(claim: Claim, finding: "Finding") -> str:
    return (
        f"{claim.engine:16} {finding.claimed:7.2f} {finding.noise_bound:5.2f} "
        f"{finding.family_bound:7.2f} {finding.any_bound:5.2f} "
        f"{f'{finding.right}/{finding.made}':>8}  {finding.verdict}"
    )


def _row(claim: Claim, finding: "Finding") -> dict[str, object]:
    return {
        "engine": claim.engine,
        **asdict(finding),
        "confidence": claim.confidence,
        "consistent": finding.consistent,
        "verdict": finding.verdict,
    }


if __name__ == "__main__":
    sys.exit(main())
