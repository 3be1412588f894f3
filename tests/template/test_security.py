"""docs/security.md: every threat has controls, every control its evidence; and what no other test shows."""

import re
from typing import Any

import pytest
import yaml

from local.template_yaml import read
from tools.template import ROOT

TEXT = (ROOT / "docs" / "security.md").read_text()
THREATS = re.split(r"^### ", TEXT.split("## The audit trail")[0], flags=re.MULTILINE)[1:]
TRAIL: dict[str, Any] = read(ROOT / "docs" / "audit-trail.yaml")["Resources"]
LOCKS = [*sorted(ROOT.glob("requirements-*.txt")), ROOT / "layers" / "common" / "requirements.txt"]


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.splitlines()[0][-40:])
def test_every_threat_names_assets_and_actors_and_every_control_its_evidence(threat: str) -> None:
    title = threat.splitlines()[0]
    assert re.search(r"\((A\d.*); (B\d.*)\)$", title), title
    for name in re.findall(r"\b[AB]\d\b", title):
        assert f"| {name} |" in TEXT
    controls = threat.split("| control | shown by |\n|---|---|\n")[1].partition("\n\n")[0].splitlines()
    assert controls
    for control in controls:
        evidence = control.rstrip(" |").rpartition(" | ")[2]
        assert "`test_" in evidence or evidence.startswith("by design of AWS"), control


def test_every_asset_and_every_actor_is_in_a_threat() -> None:
    titles = " ".join(threat.splitlines()[0] for threat in THREATS)
    titles = re.sub(
        r"([AB])(\d) to \1(\d)", lambda m: " ".join(f"{m[1]}{n}" for n in range(int(m[2]), int(m[3]) + 1)), titles
    )
    for name in re.findall(r"^\| ([AB]\d) \|", TEXT, re.MULTILINE):
        assert name in titles, name


def test_the_audit_trail_has_every_write_to_both_tables_and_cannot_be_changed() -> None:
    (selector,) = TRAIL["Trail"]["Properties"]["AdvancedEventSelectors"]
    fields = {one["Field"]: one["Equals"] for one in selector["FieldSelectors"]}
    assert (fields["eventCategory"], fields["resources.type"]) == (["Data"], ["AWS::DynamoDB::Table"])
    assert fields["readOnly"] == ["false"]
    tables = [one["Fn::Sub"].rpartition("/")[2] for one in fields["resources.ARN"]]
    assert tables == ["${SubscriptionsTableName}", "${UsageTableName}"]
    bucket = TRAIL["Entries"]["Properties"]
    assert bucket["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]["Mode"] == "COMPLIANCE"
    assert TRAIL["Entries"]["DeletionPolicy"] == TRAIL["Entries"]["UpdateReplacePolicy"] == "Retain"
    assert TRAIL["Trail"]["Properties"]["EnableLogFileValidation"] is True


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_the_layers_lock_pins_every_package_with_digests(lock: Any) -> None:
    entries = [line for line in lock.read_text().splitlines() if re.match(r"[A-Za-z0-9]", line)]
    assert entries
    assert [line for line in entries if not re.fullmatch(r"\S+==\S+( ; .+)? \\", line)] == []
    assert lock.read_text().count("--hash=sha256:") >= len(entries)


def test_every_lock_is_audited_every_night() -> None:
    audit = yaml.safe_load((ROOT / ".github" / "workflows" / "audit.yml").read_text())
    (loop,) = [step["run"] for step in audit["jobs"]["python"]["steps"] if "pip-audit -" in step.get("run", "")]
    assert "for lock in requirements-*.txt layers/common/requirements.txt; do" in loop
    assert audit[True]["schedule"]  # YAML reads the key `on` as a truth value
