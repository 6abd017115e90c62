"""A comparison of two stores as text for a terminal, and as JSON."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

from dpbench import console, store, strings
from dpbench.analysis.comparison import changes, coverage
from dpbench.analysis.comparison.stores import Comparison, Verdict
from dpbench.measurement import environment

MOST_ROWS = 40  # of accuracies, or of what is missing, in a terminal


def as_text(found: Comparison, why: str) -> str:
    """What was checked, tables of what changed, what is missing or worse, and the verdict."""
    parts, columns = [coverage.summary(found.checks)], console.columns()
    if (found.versions[["before", "after"]] == "").all().any():  # one side is empty
        return parts[0]
    parts.append(versions(changes.versions_table(found.versions), columns))
    ended = found.trials[found.trials["status_before"] != found.trials["status_after"]]
    for (was, now), rows in ended.groupby(["status_before", "status_after"]):
        parts.append(f"{len(rows)} of {len(found.trials)} trials: {was} before, {now} after")
    parts += [strings.table(header, rows, columns) for header, rows in tables(found) if rows]
    parts += notes(found)
    parts += ["\n".join(_missing(found))]
    parts += ["\n".join(f"REGRESSION {line}" for line in found.regressions)]
    if found.comparable:
        parts.append(why)
    return "\n\n".join(filter(None, parts))


def versions(table: changes.Table, columns: int) -> str:
    """Versions and hardware of both sides; in a narrow terminal what is the same is a sentence."""
    header, rows = table
    whole = strings.table(header, rows)
    if max(map(len, whole.splitlines())) <= columns:
        return whole
    same = [f"{what} {before}" for what, before, _, mark in rows if not mark]
    changed = [row for row in rows if row[-1]]
    said = textwrap.fill(f"The same on both sides: {', '.join(same)}.", columns) if same else ""
    named = [f"{what}\n  before: {before}\n  after: {after}" for what, before, after, _ in changed]
    return "\n".join(filter(None, [said, *named]))


def as_json(found: Comparison, verdict: Verdict, *, allow_missing: bool) -> str:
    """One JSON object; numbers have all their digits."""
    return strings.json_text(
        verdict=verdict,
        checked=coverage.counts(found.checks),
        allow_missing=allow_missing,
        missing=[
            {"kind": check.kind, "label": check.label, "reason": check.missing}
            for check in found.missing
        ],
        regressions=found.regressions,
        schema_version=store.SCHEMA_VERSION,
        comparable=found.comparable,
        versions=found.versions,
        trials=found.trials,
        accuracy=found.accuracy,
        overhead=found.overhead,
        epsilon=found.epsilon,
        loss=found.loss,
    )


def reason(
    found: Comparison, verdict: Verdict, *, before: Path, after: Path, allow_missing: bool
) -> str:
    """What the verdict rests on, in one line."""
    if verdict == "nothing-to-compare":
        return _nothing(found, before, after)
    gone = [check.kind for check in found.missing]
    counts = [strings.counted(gone.count(kind), kind) for kind in coverage.KINDS if kind in gone]
    missing = f"Missing in {after}, and not checked: {', '.join(counts)}"
    if verdict == "missing":
        return f"{missing}. --allow-missing lets that pass."
    also = f" {missing} (--allow-missing)." if allow_missing and gone else ""
    if verdict == "regression":
        return f"{strings.counted(len(found.regressions), 'regression')}.{also}"
    return f"No regression.{also}"


def _nothing(found: Comparison, before: Path, after: Path) -> str:
    """Why there is nothing to compare."""
    empty = [
        str(root)
        for root, side in ((before, "before"), (after, "after"))
        if (found.versions[side] == "").all()
    ]
    if empty:
        roots = " and in ".join(empty)
        return f"There is no trial and no timing in {roots}: name folders that sweeps have written."
    common = f"{before} and {after} have nothing in common to compare"
    statuses = found.trials[["status_before", "status_after"]]
    if failed := int((statuses != "missing").all(axis=1).sum()):
        return f"{common}: {strings.counted(failed, 'trial')} failed on both sides."
    if found.apart:
        return f"{common}: no trial of the same {', '.join(found.apart)}, and no timing."
    return f"{common}: no trial and no timing. Compare two runs of the same sweep."


def tables(found: Comparison) -> Iterator[changes.Table]:
    """Of accuracies, overhead ratios and epsilons."""
    yield changes.accuracy_table(changes.worst(changes.moved(found.accuracy), MOST_ROWS))
    yield changes.loss_table(found.loss)
    yield changes.overhead_table(found.overhead)
    yield changes.epsilon_table(found.epsilon)


def notes(found: Comparison) -> Iterator[str]:
    """What the tables leave out, and why."""
    moved = len(changes.moved(found.accuracy))
    if moved > MOST_ROWS:
        yield f"{moved - MOST_ROWS} more arms differ, which fall less or rise: --json has all"
    if still := len(found.accuracy) - moved:
        arms = int((found.accuracy["arms"] == 1).sum())
        yield f"{still} of {arms} arms reach the same accuracy as before, seed by seed"
    if len(found.accuracy) and found.accuracy["seeds"].max() == 1:
        yield (
            "One seed has no interval, so that only a collapse is seen: sweep both sides with "
            "--seeds 0 1 2 to see more"
        )
    if still := int((found.loss["rise"] == 0).sum()):
        yield f"{still} of {len(found.loss)} arms reach the same loss as before, seed by seed"
    if len(found.epsilon) and found.accuracy.empty and found.loss.empty:
        yield "No accuracies are compared: no seed of an arm has one on both sides"
    processors = found.overhead[found.overhead["device"] == "cpu"]["device_name"].dropna().unique()
    for name in processors:
        if not environment.tells_the_model(name):
            yield f"{name} names no model: timings of unlike machines of that name look alike"
    if same := len(found.epsilon) - len(changes.epsilon_table(found.epsilon)[1]):
        yield f"{same} of {len(found.epsilon)} arms spend the same epsilon as before"


def _missing(found: Comparison) -> Iterator[str]:
    """A line for each arm, timing and epsilon that is missing, or one for all of a kind."""
    gone = found.missing
    for kind in coverage.KINDS:
        these = [check for check in gone if check.kind == kind]
        every = sum(check.kind == kind for check in found.checks)
        reasons = {check.missing for check in these}
        if kind == "arm" and not any(check.in_part for check in these):
            shared = f" of the same {', '.join(found.apart)}" if found.apart else " of them"
            reasons = {f"AFTER has no trial{shared}"}
        if len(these) == every > 1 and len(reasons) == 1:
            yield f"MISSING all {every:,} {kind}s: {reasons.pop()}"
            continue
        for check in these[:MOST_ROWS]:
            yield f"MISSING {check.label}: {check.missing}"
        if len(these) > MOST_ROWS:
            yield f"{len(these) - MOST_ROWS:,} more {kind}s are missing: --json has all"
