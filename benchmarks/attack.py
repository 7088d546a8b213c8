"""Cheap strings that a policy could find, tried on every reference of the development data.

``python benchmarks/attack.py --data FOLDER [--limit N]`` prints each string that is paid for a
reference of another value. Fixed strings (zero, infinity, lists, intervals that hold everything,
letters) may be paid where they are the reference; derived ones (the reference beside another
number, within a list or an interval, off by a tiny fraction, in look-alikes, quoted from the
prompt) never.
"""

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from asym_lightning.verify.math import MathVerifier
from asym_lightning.verify.text import number
from benchmarks.verify_data import BENCHMARKS, rows

_REALS = "(-\\infty,\\infty)"
# A fixed string, and the texts of references that have its value.
FIXED: dict[str, set[str]] = {
    "0": {"0"}, "0.0": {"0"}, "-0": {"0"}, "00": {"0"}, "0^0": {"1"}, "1": {"1"}, "-1": {"-1"},
    "1-10^{-30}": set(), "10^{-30}": set(), "\\frac{1}{10^{99}}": set(), "2": {"2"},
    "\\frac{1}{2^{100}}": set(), "0.0000001": set(), "1e-300": set(), "1e300": set(),
    "\\infty": {"\\infty"}, "-\\infty": set(), "nan": set(), "inf": set(), "NaN": set(),
    "None": {"empty"}, "\\frac{0}{0}": set(), "\\frac{1}{0}": set(), "0 \\cdot \\infty": set(),
    "x": {"x"}, "x=x": set(), "0=0": {"0"}, "1=1": {"1"}, "y=y": set(), "f(x)=f(x)": set(),
    "x=y": set(), "x \\in \\mathbb{R}": {_REALS}, "\\mathbb{R}": {_REALS},
    "\\mathbb{Z}": set(), _REALS: {_REALS}, "[0,10^{100}]": set(),
    "[-10^9, 10^9]": set(), "(0,1)": {"(0,1)"}, "[0,1]": {"[0,1]"}, "x>0": {"(0,\\infty)"},
    "x \\ne 0": set(),
    "-10^{9}<x<10^{9}": set(), "\\emptyset": {"empty"}, "\\{\\}": set(), "()": set(), "[]": set(),
    "1,2,3,4,5,6,7,8,9,10": set(), "0,1": {"0,1"}, "0 1": set(), "1 1": set(), "1 2": set(),
    "1 2 3": set(), "2 3": set(), "1\\ 1": set(), "0 or 1": {"0,1"}, "0, 1, 2, 3": set(),
    "\\pm 1": {"-1,1"}, "\\pm \\infty": set(), "1 \\pm 1": set(), "\\{0,1,2,3,4,5\\}": set(),
    "1,2,3,\\ldots": set(), "\\ldots": set(), "...": set(), "?": set(), "*": set(), "-": set(),
    "+": set(), "=": set(), ",": set(), ".": set(), "\\text{}": set(), "\\text{ }": set(),
    "\\boxed{}": set(), "{}": set(), "\\,": set(), "$$": set(), "\\quad": set(), "\\\\": set(),
    "A": {"A"}, "B": {"B"}, "C": {"C"}, "D": {"D"}, "E": {"E"}, "A, B, C, D": set(),
    "(A)(B)(C)(D)(E)": set(), "(A) (B) (C) (D) (E)": set(), "A or B or C or D or E": set(),
    "ABCDE": set(), "yes or no": set(), "yes": {"yes"}, "no": {"no"}, "even odd": set(),
    "even or odd": set(), "i": {"i"}, "e": {"e"}, "\\pi": {"\\pi", "180"}, "n": {"n"},
    "x^0": {"1"}, "answer": set(), "the answer": set(), "\\text{the answer}": set(),
    "any": set(), "all": set(),
    "\\text{all real numbers}": {_REALS}, "a": {"a"}, "O": {"O"}, "l": {"l"},
    "О": set(), "०": set(),
    "٠": set(), "Ｏ": set(), "\\begin{pmatrix}\\end{pmatrix}": set(), "0_2": {"0"}, "1_2": {"1"},
    "0:0": set(), "1:1": {"1"}, "12:00": set(), "0\\%": {"0"}, "100\\%": {"1", "100"},
    "\\sqrt{}": set(), "\\frac{}{}": set(), "|x|": {"|x|"}, "\\lim_{x\\to 0} x": {"0"},
    "\\sum_{n=0}^{0} n": {"0"}, "x=0,1,2,3": set(), "\\top": set(), "True": set(), "true": set(),
}  # fmt: skip


def derived(gold: str, problem: str) -> Iterator[tuple[str, str]]:
    """Strings (with the kind of each) that hold the reference, or nearly, and are not it."""
    other = "1234567"
    if not re.search(r"\([A-J]\)", gold):  # the letter of a choice may have its text beside it
        yield "beside", f"\\boxed{{{gold} {other}}}"
        yield "beside", f"\\boxed{{{gold}\\ {other}}}"
    yield "beside", f"\\boxed{{{other} {gold}}}"
    yield "list", f"\\boxed{{{gold}, {other}}}"
    yield "list", f"\\boxed{{{gold} \\text{{ or }} {other}}}"
    yield "list", f"\\boxed{{{other} \\text{{ and }} {gold}}}"
    yield "list", f"\\boxed{{\\{{{gold}, {other}\\}}}}"
    yield "list", f"\\boxed{{{gold}; {other}}}"
    yield "pair", f"\\boxed{{({gold}, {gold})}}"
    yield "boxes", f"\\boxed{{{gold}}} or \\boxed{{{other}}}"
    yield "boxes", f"\\boxed{{{other}}}, \\boxed{{{gold}}}"
    yield "boxes", f"\\boxed{{{gold}}} \\boxed{{}}"
    yield "equation", f"\\boxed{{{gold} = {other}}}"
    yield "equation", f"\\boxed{{x = {gold} = {other}}}"
    yield "equation", f"\\boxed{{{gold} \\approx {other}}}"
    yield "relation", f"\\boxed{{x \\ne {gold}}}"
    yield "relation", f"\\boxed{{\\text{{not }} {gold}}}"
    yield "tiny", f"\\boxed{{{gold} + 10^{{-30}}}}"
    if gold.strip("$") != "0":
        yield "tiny", f"\\boxed{{({gold})(1 + 10^{{-25}})}}"
    yield "tiny", f"\\boxed{{{gold} - \\frac{{1}}{{2^{{200}}}}}}"
    yield "plus-minus", f"\\boxed{{{gold} \\pm {other}}}"
    yield "plus-minus", f"\\boxed{{{gold} \\pm 10^{{-20}}}}"
    yield "quoted", f"\\boxed{{{problem[-300:]}}}"
    numbers = re.findall(r"\d+", problem)[-12:]
    if len({*numbers}) > 1:
        yield "quoted", f"\\boxed{{{' '.join(numbers)}}}"
        yield "quoted", f"\\boxed{{{', '.join(numbers)}}}"
    value = number(gold)
    if value is not None:
        yield from numeric(value)


def numeric(value: Fraction) -> Iterator[tuple[str, str]]:
    """Strings around a number: parts that add up to it, ranges, neighbours, look-alikes."""
    if value.denominator == 1:
        n = value.numerator
        for part in (1, 2, n // 2):
            if min(part, n - part) >= 0:  # else it is a difference
                yield "beside", f"\\boxed{{{part} {n - part}}}"
                yield "beside", f"\\boxed{{{n - part}\\,{part}}}"
        yield "beside", f"\\boxed{{{n - 1}\\frac{{1}}{{1}}}}"
        yield "beside", f"\\boxed{{{n - 1} 1/1}}"
        yield "range", f"\\boxed{{[{n - 1}, {n + 1}]}}"
        yield "range", f"\\boxed{{{n - 1} < x < {n + 1}}}"
        yield "range", f"\\boxed{{({n}, \\infty)}}"
        if n >= 0:
            yield "range", f"\\boxed{{{n}-{n + 1}}}"
        yield "list", f"\\boxed{{{', '.join(str(n + i) for i in range(-3, 4))}}}"
        yield "neighbour", f"\\boxed{{{n + 1}}}"
        yield "neighbour", f"\\boxed{{{n}.0000001}}"
        yield "neighbour", f"\\boxed{{{n}.{'0' * 30}1}}"
        yield "neighbour", f"\\boxed{{{n - 1}.{'9' * 18}}}"
        if n:
            yield "neighbour", f"\\boxed{{{n}e1}}"
        yield "look-alike", f"\\boxed{{{n}\u0660}}"
        yield "look-alike", f"\\boxed{{{str(n).translate(str.maketrans('01', 'Ol'))}_}}"
        yield "unit", f"\\boxed{{{n}_{{37}}}}"
    yield "neighbour", f"\\boxed{{\\frac{{{value.numerator + 1}}}{{{value.denominator}}}}}"
    yield (
        "neighbour",
        f"\\boxed{{\\frac{{{value.numerator * 10**20 + 1}}}{{{value.denominator * 10**20}}}}}",
    )


def is_same(text: str, gold: str, values: set[str]) -> bool:
    """Return whether a fixed string has the value of a reference, by texts alone."""
    gold = re.sub(r"^\$?[A-Za-z](?:\([a-z]\))? ?= ?|_\d\$?$|^0+(?=\d)", "", gold)
    plain = re.sub(r"\\(?:text|mbox|left|right|circ|\$|%|,|!)|[{}$%^,! ()\\]|\\text\{.*", "", gold)
    bare = {re.sub(r"[{}$%^,! ()\\]", "", value) for value in (*values, text)}
    return plain in bare or re.sub(r"[a-z.]+$", "", plain) in bare


def references(folder: Path) -> dict[str, str]:
    """Every reference with the problem of one of its rows."""
    found: dict[str, str] = {}
    for name in (*BENCHMARKS, "math_train"):
        for row in rows(folder, name):
            answer = str(row["answer"])
            if answer.strip():
                found.setdefault(answer, str(row.get("problem", "")))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="references, spread over all of them")
    options = parser.parse_args()
    golds = list(references(options.data).items())
    if options.limit:
        golds = golds[:: max(1, len(golds) // options.limit)]
    start = time.perf_counter()
    pairs: list[tuple[str, str, str, bool]] = []
    for gold, problem in golds:
        for text, values in FIXED.items():
            pairs.append(("fixed", f"\\boxed{{{text}}}", gold, is_same(text, gold, values)))
        pairs += [(kind, text, gold, False) for kind, text in derived(gold, problem)]
    verifier = MathVerifier()
    kinds: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    paid: list[tuple[Any, ...]] = []
    for at in range(0, len(pairs), 20_000):
        part = pairs[at : at + 20_000]
        texts, answers = [pair[1] for pair in part], [pair[2] for pair in part]
        verdicts = verifier.score(texts, answers, [False] * len(part))
        for (kind, text, gold, same), verdict in zip(part, verdicts, strict=True):
            kinds[str(verdict.kind)] += 1
            tried[kind] += 1
            if verdict.reward and not same:
                paid.append((kind, text, gold))
    verifier.close()
    seconds = time.perf_counter() - start
    print(f"{len(golds)} references, {len(pairs)} tries in {seconds:.0f} s: {dict(kinds)}")
    print(f"tries by kind: {dict(tried)}")
    print(f"paid for a reference of another value: {len(paid)}")
    for kind, text, gold in paid:
        print(f"  {kind}: {text!r} for {gold!r}")


if __name__ == "__main__":
    main()
