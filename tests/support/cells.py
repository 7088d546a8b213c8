"""Files of data with an odd row."""

import json
from pathlib import Path
from typing import Any

import pytest

from asym_lightning.tasks.math import MathTask
from asym_lightning.types import ConfigError


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def in_json(folder: Path, problem: Any, answer: Any) -> MathTask:
    rows = [{"problem": "0?", "answer": "0"}, {"problem": problem, "answer": answer}]
    return MathTask(write_jsonl(folder / "odd.jsonl", rows))


def refusal(folder: Path, problem: Any, answer: Any) -> str:
    with pytest.raises(ConfigError) as error:
        in_json(folder, problem, answer)
    message = str(error.value)
    assert "\n" not in message and f"row 2 of {folder / 'odd.jsonl'}" in message
    return message
