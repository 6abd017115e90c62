"""Documents for a pipeline, read back as their readers do."""

from xml.etree import ElementTree

import pytest

from dpbench.analysis.comparison import changes
from dpbench.analysis.comparison.coverage import Check, Kind
from dpbench.analysis.comparison.stores import Verdict
from dpbench.reporting import documents


def check(
    kind: Kind, label: str, missing: str | None = None, regressions: tuple[str, ...] = ()
) -> Check:
    return Check(
        kind=kind, key=(kind, label), label=label, missing=missing, regressions=regressions
    )


CHECKS = [
    check("arm", "a & <b>", regressions=("accuracy -2.00 points", "seed 1 was ok | failed")),
    check("arm", "b", missing="AFTER lacks 1 of its 2 seeds (1)"),
    check("engine", "fused, all 2 arms"),
    check("timing", "c", missing="AFTER has no such timing"),
    check("epsilon", 'd "quoted"'),
]


def junit(verdict: Verdict, *, allow_missing: bool = False) -> ElementTree.Element:
    written = documents.junit(verdict, "why", CHECKS, allow_missing=allow_missing)
    return ElementTree.fromstring(written)  # noqa: S314  # our own


@pytest.mark.parametrize(("allow_missing", "failures", "skipped"), [(False, 3, 0), (True, 1, 2)])
def test_each_check_is_a_test_case(allow_missing: bool, failures: int, skipped: int) -> None:
    root = junit("regression", allow_missing=allow_missing)
    assert root.tag == "testsuites"
    assert root.attrib == {
        "name": "dpbench.compare",
        "tests": "5",
        "failures": str(failures),
        "errors": "0",
        "skipped": str(skipped),
    }
    assert [suite.get("name") for suite in root] == ["arm", "engine", "timing", "epsilon"]
    cases = root.findall("testsuite/testcase")
    assert [case.get("name") for case in cases] == [each.label for each in CHECKS]
    assert all(case.get("classname") and len(case) <= 1 for case in cases)
    for suite in root:
        assert int(suite.get("tests", "")) == len(suite)
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
    (failure,) = cases[0]
    assert failure.get("type") == "regression"
    assert failure.get("message") == "accuracy -2.00 points; seed 1 was ok | failed"
    assert cases[1][0].tag == ("skipped" if allow_missing else "failure")
    assert len(cases[4]) == 0


def test_nothing_to_compare_is_an_error_whatever_is_allowed() -> None:
    root = junit("nothing-to-compare", allow_missing=True)
    assert root.get("errors") == "1"
    (error,) = root.findall("testsuite/testcase/error")
    assert error.get("message") == "why"


def test_markdown_opens_with_the_verdict_and_escapes_what_it_is_given() -> None:
    table: changes.Table = (("accuracy", "before"), [("a|b", "90.00"), ("<c>", "*")])
    none: changes.Table = (("epsilon", "before"), [])
    said = documents.markdown("regression", "1 regression.", CHECKS, [table, none], ["a note"])
    lines = said.splitlines()
    assert lines[:3] == [
        "## Regression",
        "",
        "checked 1 of 2 arms, 0 of 1 timings, 1 of 1 epsilons.",
    ]
    assert r"- **REGRESSION** a \& \<b\>: accuracy -2.00 points" in lines
    assert "- **MISSING** c: AFTER has no such timing" in lines
    assert lines.index("| accuracy | before |") == lines.index("|---|---:|") - 1
    assert r"| a\|b | 90.00 |" in lines
    assert r"| \<c\> | \* |" in lines
    assert "epsilon" not in said.partition("</details>")[2]
    assert lines[-1] == "- a note"
    assert "\n\n\n" not in said


def test_a_job_summary_stays_within_its_size() -> None:
    many = [check("timing", "t" * 100, missing="m" * 200)] * 10_000
    said = documents.markdown("missing", "why", many, [], [])
    assert len(said) < 2**20
    assert "- and 9,800 more" in said
