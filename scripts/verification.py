"""Write docs/verification.md from the pairs that the tests hold."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "verification.md"
sys.path.insert(0, str(ROOT))

from tests.support.answer_pairs import DECISIONS, KINDS, Pairs  # noqa: E402

HEAD = """# What counts as right

`verify@task.verify=math` takes the last `\\boxed{}` of a completion (`\\fbox{}` too), reads it and the reference by rules of its own, and compares what it read: exactly where both are exact, part by part where there are parts. It never pays for what it cannot read or cannot decide. This page is made from the pairs that the tests check (`tests/support/answer_pairs.py`, `number_pairs.py`); every row holds.

Try a pair, read by the same jailed worker as in a run:

```bash
python -m asym_lightning.verify "x = \\frac{2}{4}" "0.5"
```

It prints the verdict, why, and how both texts were read. The exit status is 0 for a correct answer.

| kind | when |
|---|---|
| `correct` | equal by the rules below |
| `wrong` | read, and different |
| `unparseable` | the answer cannot be read: numbers side by side, an unknown command, broken brackets |
| `timeout` | not decided within the time limit, or within the bounds on the size of numbers: never right |
| `error` | the reference cannot be read; the same text is still right |

The parsed answer is the column `answer` of `rollouts/*.parquet`, the answer as written the column `text`; `completions/*.html` shows both beside the reference. Sums, products, integrals and limits are read by the parser of math-verify, everything else by the package; math-verify's own comparison, which rounds, decides nothing.
"""  # noqa: E501

TAIL = """
## The other verifiers

`number` reads numbers by the same rules and takes the complete answer or nothing: `1e3` is 1000, `1 1/2` is 3/2, `10 or 12` and `3 4` are no number; a name (`x = 5`) and a unit (`5 cm`) are passed over. `choice` takes one letter, with or without its text; `B and C` is no choice. `math_lenient` finds an answer without a box: a list behind "the answer is" stays a list, and an empty box hides nothing.

## What is refused all the same

- Remainders (`7 \\pmod{10}` for `7`), systems with `cases`, inequalities that must be solved first (`|x|<3` for `(-3,3)`), dates in digits for dates in words, units that must be converted.
- Expressions that are equal only for positive variables (`\\sqrt{x^2}` for `x`), and, as `timeout`, identities that algebra does not show within bounds.
- Of the 7,500 reference solutions of MATH train nine: seven box several values where the answer is the last of them (`(8,38)`, `(0, 1)`, `9`, `(-5, 1)`, `8:34 p.m.`, `150^\\circ`, `-3`), two have an empty box.

## Measured

`python benchmarks/verify.py accuracy --data FOLDER` and `python benchmarks/attack.py --data FOLDER`, beside math-verify 0.9 alone:

| pairs | right | paid wrongly | refused wrongly | math-verify: paid wrongly | refused wrongly |
|---|---|---|---|---|---|
| public reports, not arguable: 244 | 163 | 0 | 0 | 16 | 48 |
| solutions of MATH-500: 500 | 500 | 0 | 0 | 0 | 0 |
| solutions of MATH train: 7,500 | 7,500 | 0 | 9 | 0 | 13 |
| numbers of all seven sets off by one: 5,294 | 0 | 0 | 0 | 0 | 0 |
| rounded to three digits: 796 | 0 | 0 | 0 | 12 | 0 |
| with another unit: 56 | 0 | 0 | 0 | 54 | 0 |

The attack tried 573,800 cheap strings on 3,560 references; none is paid for a reference of another value.
"""  # noqa: E501


def code(text: str) -> str:
    """A text as code in a cell of a table."""
    shown = text.replace("|", "\\|").replace("\u200b", "(zero width)").replace("\u202e", "(turn)")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def rows(pairs: Pairs, verdict: str) -> list[str]:
    return [f"| {code(answer)} | {code(reference)} | {verdict} |" for answer, reference in pairs]


def page() -> str:
    """The text of the page."""
    lines = [HEAD]
    for kind in KINDS:
        lines += [
            f"## {kind.title}",
            "",
            kind.rule,
            "",
            "| answer | reference | |",
            "|---|---|---|",
        ]
        lines += [*rows(kind.accepted, "right"), *rows(kind.refused, "not right"), ""]
    lines += ["## Where people differ", "", "One decision each, and no switches.", ""]
    lines += ["| answer | reference | | decision |", "|---|---|---|---|"]
    for answer, reference, accepted, decision in DECISIONS:
        verdict = "right" if accepted else "not right"
        lines.append(f"| {code(answer)} | {code(reference)} | {verdict} | {decision} |")
    return "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
