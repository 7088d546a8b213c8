"""The development data as rows, and one call of a verifier."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet

from asym_lightning.types import Verdict
from asym_lightning.verify.math import MathVerifier

BENCHMARKS = ("math500", "aime24", "aime25", "amc23", "olympiadbench", "gsm8k")


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    if name == "gsm8k":
        lines = (folder / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines()
        data = [json.loads(line) for line in lines]
        return [
            {"problem": row["question"], "answer": row["answer"].split("####")[1].strip()}
            for row in data
        ]
    return pyarrow.parquet.read_table(folder / f"{name}.parquet").to_pylist()


def score(verifier: MathVerifier, completions: list[str], answers: list[str]) -> list[Verdict]:
    return verifier.score(completions, answers, [False] * len(completions))
