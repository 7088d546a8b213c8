"""scripts/words.py finds banned names and phrases where they stand, and nothing in plain code."""

from pathlib import Path
from types import ModuleType

import pytest

from tests.support.scripts import script

PLAIN = '''"""Return the correct rollouts."""


def correct_rollouts(rollouts: list[int]) -> list[int]:
    """Keep rollouts with a reward; "one" in a text is fine."""
    return [rollout for rollout in rollouts if rollout]
'''


@pytest.fixture(scope="module")
def words() -> ModuleType:
    return script("words")


@pytest.mark.parametrize(
    ("code", "line", "told"),
    [
        ("x = 1\nfor one in [x]:\n    pass\n", 2, "the name one"),
        ("def share_of(x):\n    return x\n", 1, "better: rollout_shard"),
        ("class Made:\n    standing = 1\n", 2, "better: token_weights"),
        ("x = 1  # kept for want of a better\n", 1, "'for want of'"),
        ("def f(x):\n    raise ValueError(f'{x} is none of these')\n", 2, "is not a ..."),
        ('x = 1\n\n\ndef f():\n    """What it does."""\n', 5, "a noun or a verb"),
    ],
)
def test_a_banned_word_is_found(
    words: ModuleType, tmp_path: Path, code: str, line: int, told: str
) -> None:
    file = tmp_path / "code.py"
    file.write_text(code)
    findings = [finding for finding in words.findings(file) if told in finding]
    assert findings and findings[0].startswith(f"{line}: ")


def test_plain_code_is_left_alone(words: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text(PLAIN)
    assert list(words.findings(file)) == []
