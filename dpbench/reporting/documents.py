"""A comparison as documents for continuous integration: Markdown, and JUnit's XML. No files."""

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET

from dpbench.analysis.comparison import changes, coverage
from dpbench.analysis.comparison.stores import Verdict

HEADLINES: dict[Verdict, str] = {
    "regression": "Regression",
    "missing": "Not all was checked",
    "nothing-to-compare": "Nothing to compare",
    "no-regression": "No regression",
}
MOST_LINES = 200  # of findings: a job summary of GitHub holds a mebibyte

_ESCAPED = {ord(each): f"\\{each}" for each in r"\`*_{}[]<>#|~&"}


def markdown(
    verdict: Verdict,
    why: str,
    checks: Sequence[coverage.Check],
    tables: Sequence[changes.Table],
    notes: Sequence[str],
) -> str:
    """The verdict, what was checked, findings as a list, and the tables folded away.

    Args:
        verdict: Of the comparison.
        why: What it rests on, in one line.
        checks: All of them.
        tables: Header and rows of each; those without rows are left out.
        notes: Lines that say what the tables leave out.
    """
    headline = HEADLINES[verdict]
    lines = [f"## {headline}", "", f"{coverage.summary(checks)}.", ""]
    if why != f"{headline}.":
        lines += [_escaped(why), ""]
    found = list(findings(checks))
    for mark, label, what in found[:MOST_LINES]:
        lines.append(f"- **{mark}** {_escaped(label)}: {_escaped(what)}")
    if len(found) > MOST_LINES:
        lines.append(f"- and {len(found) - MOST_LINES:,} more")
    for header, rows in tables:
        if not rows:
            continue
        title = header[0] or "versions"
        lines += [*_blank(lines), f"<details><summary>{title}</summary>", "", _row(header)]
        lines += ["|".join(["", "---", *["---:"] * (len(header) - 1), ""])]
        lines += [*map(_row, rows), "", "</details>"]
    lines += [*_blank(lines), *(f"- {_escaped(note)}" for note in notes)]
    return "\n".join(lines).rstrip() + "\n"


def _blank(lines: Sequence[str]) -> list[str]:
    """The empty line that Markdown wants between a paragraph and what follows."""
    return [""] if lines[-1] else []


def findings(checks: Sequence[coverage.Check]) -> Iterator[tuple[str, str, str]]:
    """REGRESSION or MISSING, the label and what it is, of each; regressions first."""
    for check in checks:
        for what in check.regressions:
            yield "REGRESSION", check.label, what
    for check in coverage.missing(checks):
        yield "MISSING", check.label, str(check.missing)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    """The text as Markdown shows it letter by letter."""
    return text.translate(_ESCAPED)


def junit(
    verdict: Verdict, why: str, checks: Sequence[coverage.Check], *, allow_missing: bool
) -> bytes:
    """JUnit XML: a suite for each kind of check, a test case for each check.

    A regression is a failure, and so is what is missing, or skipped where that is allowed. Where
    there is nothing to compare, a test case of that name has an error.

    Args:
        verdict: Of the comparison.
        why: What it rests on, in one line.
        checks: All of them.
        allow_missing: Whether what is missing passes.
    """
    root = ET.Element("testsuites", name="dpbench.compare")
    if verdict == "nothing-to-compare":
        suite = ET.SubElement(root, "testsuite", name="comparison")
        case = ET.SubElement(suite, "testcase", classname="comparison", name="something to compare")
        ET.SubElement(case, "error", type=verdict, message=why).text = why
    for kind in dict.fromkeys(check.kind for check in checks):
        suite = ET.SubElement(root, "testsuite", name=kind)
        for check in checks:
            if check.kind == kind:
                case = ET.SubElement(suite, "testcase", classname=kind, name=check.label)
                _outcome(case, check, allow_missing=allow_missing)
    for suite in root:
        _count(suite)
    for name in _COUNTED:
        root.set(name, str(sum(int(suite.get(name, 0)) for suite in root)))
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


_COUNTED = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}


def _count(suite: ET.Element) -> None:
    for name, tag in _COUNTED.items():
        suite.set(name, str(len(suite.findall(f".//{tag}"))))


def _outcome(case: ET.Element, check: coverage.Check, *, allow_missing: bool) -> None:
    """At most one element in the test case, which readers of JUnit expect."""
    found = [*check.regressions, *([f"missing: {check.missing}"] if check.missing else [])]
    if not found:
        return
    text = "; ".join(found)
    if not check.regressions and allow_missing:
        ET.SubElement(case, "skipped", message=text)
        return
    kind = "regression" if check.regressions else "missing"
    ET.SubElement(case, "failure", type=kind, message=text).text = text
