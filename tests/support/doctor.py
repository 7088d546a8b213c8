"""The doctor's findings of something that is wrong."""

from asym_lightning.doctor.machine import Finding


def problem(finding: Finding, seen: str, todo: str) -> None:
    """Check that a finding is a problem that says, in a line each, what was seen and what to do."""
    assert not finding.ok and seen in finding.seen and todo in finding.todo, finding
    assert "\n" not in finding.seen + finding.todo
