"""The section ``accuracy`` of ``benchmarks/verify.py``, beside math-verify alone."""

import json
import logging
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from asym_lightning.verify.math import MathVerifier
from asym_lightning.verify.text import number
from benchmarks.verify_data import BENCHMARKS, rows, score

Pair = tuple[str, str]


def written(value: Fraction) -> str:
    """A number as an answer has it."""
    sign = "-" if value < 0 else ""
    if value.denominator == 1:
        return str(value)
    return f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def variants(gold: str) -> Iterator[tuple[str, str, bool]]:
    """Variants of a reference: kind, text, and whether it is right."""
    yield "itself", gold, True
    value = number(gold)
    if value is not None:
        yield "by one", written(value + 1), False
        yield "by one", written(value - 1), False
        rounded = Fraction(f"{float(value):.3g}")
        if rounded != value and abs(value) < 10**15:
            yield "rounded", f"{float(value):.3g}", False
        if value.denominator != 1 and "%" not in gold:
            yield "swapped", written(1 / value), False
    parts = re.fullmatch(r"\$?(?:\\left)?\(([^(),]+),([^(),]+?)(?:\\right)?\)\$?", gold)
    if parts and parts[1].strip() != parts[2].strip():
        yield "swapped", f"({parts[2]},{parts[1]})", False
    listed = re.fullmatch(r"([^()\[\]{},]+), ?([^()\[\]{},]+)", gold)
    if listed and not re.search(r"\d,(?:\\!)?\d{3}", gold):
        yield "permuted", f"{listed[2]}, {listed[1]}", True
    unit = re.search(r"\\(?:text|mbox)\{ ?[a-z ]+\}", gold)
    if unit and re.match(r"[\d$]", gold):
        yield "other unit", gold.replace(unit[0], "\\text{ furlongs}"), False


def by_library(pairs: list[Pair]) -> list[bool]:
    """The verdicts of math-verify as it comes, on boxed answers."""
    from math_verify import LatexExtractionConfig, parse, verify

    logging.disable()
    config = [LatexExtractionConfig(boxed_match_priority=0)]
    found = []
    for completion, gold in pairs:
        try:
            parsed, expected = parse(completion, config), parse(f"\\boxed{{{gold}}}", config)
            found.append(bool(verify(expected, parsed)))
        except Exception:
            found.append(False)
    logging.disable(logging.NOTSET)
    return found


def beside(verifier: MathVerifier, title: str, pairs: list[Pair], correct: list[bool]) -> None:
    """Print what was paid wrongly and refused wrongly, and the seconds, of both."""
    start = time.perf_counter()
    verdicts = score(verifier, [text for text, _ in pairs], [gold for _, gold in pairs])
    ours, seconds = [bool(verdict.reward) for verdict in verdicts], time.perf_counter() - start
    start = time.perf_counter()
    theirs, library_seconds = by_library(pairs), time.perf_counter() - start
    counts = [
        sum(got and not want for got, want in zip(found, correct, strict=True))
        for found in (ours, theirs)
    ]
    missed = [
        sum(want and not got for got, want in zip(found, correct, strict=True))
        for found in (ours, theirs)
    ]
    print(
        f"{title}: {len(pairs)} pairs, {sum(correct)} right; paid wrongly {counts[0]}, refused "
        f"wrongly {missed[0]}, {seconds:.1f} s; math-verify alone: {counts[1]}, {missed[1]}, "
        f"{library_seconds:.1f} s"
    )
    for (text, gold), got, want, verdict in zip(pairs, ours, correct, verdicts, strict=True):
        if got != want:
            name = "refused" if want else "paid"
            print(f"  {name}: {text[-90:]!r} for {gold!r}: {verdict.detail or verdict.answer}")


def accuracy(folder: Path) -> None:
    """Pairs of public reports, reference solutions, references and their variants."""
    verifier = MathVerifier()
    score(verifier, ["\\boxed{1}"] * 2, ["1"] * 2)
    lines = (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    reports = [json.loads(line) for line in lines]
    for title, chosen in (
        ("reports", [row for row in reports if not row.get("arguable")]),
        ("arguable reports", [row for row in reports if row.get("arguable")]),
    ):
        pairs = [(row["completion"], row["answer"]) for row in chosen]
        beside(verifier, title, pairs, [row["right"] for row in chosen])
    for name in ("math500", "math_train"):
        data = rows(folder, name)
        pairs = [(row["solution"], row["answer"]) for row in data]
        beside(verifier, f"{name}, solutions", pairs, [True] * len(pairs))
    for name in (*BENCHMARKS, "math_train"):
        golds = dict.fromkeys(row["answer"] for row in rows(folder, name))
        found: dict[str, list[tuple[Pair, bool]]] = {}
        for gold in golds:
            for kind, text, correct in variants(gold) if gold.strip() else ():
                found.setdefault(kind, []).append(((f"\\boxed{{{text}}}", gold), correct))
        for kind, items in found.items():
            pairs = [pair for pair, _ in items]
            beside(verifier, f"{name}, {kind}", pairs, [correct for _, correct in items])
    verifier.close()
