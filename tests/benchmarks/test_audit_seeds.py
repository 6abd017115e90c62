"""What the committed audits found is what is wanted of the audit, and what README says of it."""

import dataclasses
import json
from dataclasses import replace
from typing import Any

import pytest
from factories import ROOT

from bench import audit_seeds
from bench.audit_seeds import Arm
from dpbench.auditing.claim import BREAKS, Claim

README = (ROOT / "results" / "audit" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    committed = ROOT / "results" / "audit" / "seeds.json"
    return dict(json.loads(committed.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def arms(found: dict[str, Any]) -> list[Arm]:
    return [Arm(**row) for row in found["arms"]]


def test_the_committed_audits_are_those_of_the_defaults(found: dict[str, Any]) -> None:
    """Their claim is the audit's today; its epsilon may change with the accountant."""
    assert {"task": None, "data_root": None} | found["claim"] == dataclasses.asdict(
        Claim(engine="fused")
    )
    assert found["seeds"] == list(range(10))
    assert found["cpu_seconds"] < 8 * 60
    assert "dirty" not in found["machine"]["dpbench_commit"]


def test_the_arms_are_those_of_the_raw_audits(found: dict[str, Any], arms: list[Arm]) -> None:
    assert {(arm.engine, arm.broken) for arm in arms} == {
        (engine, broken) for engine in audit_seeds.ENGINES for broken in (None, *BREAKS)
    }
    for arm in arms:
        audits = [
            row
            for row in found["audits"]
            if (row["engine"], row["broken"]) == (arm.engine, arm.broken)
        ]
        assert len(audits) == arm.audits == 10
        bounds = [row["family_bound"] / row["claimed"] for row in audits]
        assert sum(bounds) / 10 == pytest.approx(arm.by_guesses)
        refuted = sum(
            row["lower_bound"] > row["claimed"] or not row["independent"] for row in audits
        )
        assert refuted == arm.refuted


def test_the_audit_finds_what_is_wanted_of_it(found: dict[str, Any], arms: list[Arm]) -> None:
    simulated = found["simulated"]
    assert simulated["all"]["audits"] == 200
    assert audit_seeds.as_wanted(arms, sum(each["refuted"] for each in simulated.values()))


def test_what_is_not_wanted_is_seen(arms: list[Arm]) -> None:
    assert not audit_seeds.as_wanted(arms, 1)
    correct, defect = arms[0], arms[1]
    for planted in (
        replace(correct, refuted=1),
        replace(correct, by_guesses=0.59),
        replace(correct, by_noise=0.94),
        replace(defect, refuted=9),
    ):
        assert not audit_seeds.as_wanted([*arms, planted], 0)


def test_readme_has_the_table_and_the_games(found: dict[str, Any], arms: list[Arm]) -> None:
    assert audit_seeds.table(arms) in README
    flat = " ".join(README.split())
    for members, row in found["simulated"].items():
        assert audit_seeds.sentence(members, Arm(**row)) in flat
