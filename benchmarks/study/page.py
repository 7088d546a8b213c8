"""The study's page, its numbers as JSON, and the lines for the terminal."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from asym_lightning.analysis.arms import shown
from asym_lightning.analysis.statistics import FEWEST, as_json
from asym_lightning.metrics.bootstrap import LEVEL
from asym_lightning.runtime.run_folder import versions
from benchmarks.study.figures import NAMES
from benchmarks.study.judge import Ruled, Ruling
from benchmarks.study.plan import Part

MARKS = {Ruling.HOLDS: "**holds**", Ruling.DOES_NOT_HOLD: "**does not hold**"}
COLUMNS = {
    **{
        "reward": "reward",
        "entropy": "entropy",
        "unsolved": "unsolved",
        "pass@1": "pass@1",
        "pass@8": "pass@8",
        "pass@64": "pass@64",
    },
    "distinct_correct": "different right answers of 64",
}
VARYING = ("learning_rate", "coefficient")  # what tells the arms of a table apart beside the method
Families = Mapping[str, Sequence[Ruled]]


def write(
    title: str,
    command: str,
    parts: Sequence[Part],
    rows: pd.DataFrame,
    families: Families,
    captions: dict[str, str],
    page: Path,
) -> None:
    """Write ``page``, and stats.json in the folder of the same name beside it.

    The figures must be there already.
    """
    folder = page.with_suffix("")
    text = [
        f"# {title}",
        f"`{command}`",
        _setup(rows),
        "## Claims",
        _legend(families),
        *(
            block
            for family, ruled in families.items()
            for block in (f"### {family}", _claims(ruled))
        ),
    ]
    if captions:
        text += [
            "## Figures",
            *(
                f"![{caption.partition('.')[0]}]({folder.name}/{name})\n\n{caption}"
                for name, caption in captions.items()
            ),
        ]
    text += [
        "## Every arm",
        _arms_legend(rows),
        *(block for part in parts for block in _arms(part, rows)),
    ]
    page.write_text("\n\n".join(text) + "\n")
    (folder / "stats.json").write_text(
        json.dumps(_statistics(families), indent=1, allow_nan=False) + "\n"
    )


def _setup(rows: pd.DataFrame) -> str:
    named = ", ".join(f"{name} {version}" for name, version in versions().items())
    revisions = ", ".join(sorted(set(rows["revision"].dropna())))
    lengths = ", ".join(str(n) for n in sorted(set(rows["iterations"])))
    return (
        f"{len(rows)} runs of {lengths} iterations with 256 rollouts each, sampled by vLLM; the "
        f"last weights are evaluated. {rows['seconds'].sum() / 3600:.1f} hours of runs, one "
        f"thread each. {platform.machine()}, {os.cpu_count()} cores; {named}; revision "
        f"{revisions}."
    )


def _legend(families: Families) -> str:
    tested = sum(
        r.ruling in (*MARKS, Ruling.NOT_SEPARATED) for ruled in families.values() for r in ruled
    )
    return (
        "Each claim has one number, written down before a frontier was seen (but for tables that "
        "say so), taken seed by seed over the seeds that both arms have. The interval is "
        f"Student's {LEVEL:.0%} over seeds. *Holds* and *does not hold* need this interval and "
        f"the bootstrap's to exclude 0, p at most {1 - LEVEL:.2f} after Holm's correction within "
        "the table (claims still to be run count), and an exact sign-flip test that agrees as "
        "far as it can. Frontiers that cross (one above over a third of the range, below over "
        f"another, by the same rule) are not separated; below {FEWEST} seeds there is no verdict; "
        f"a method that was not run at all five learning rates is not compared. {tested} claims "
        "were tested. *At A and B*: the learning rates at which the two are best. *Reward a to "
        "b*: the range that both frontiers cover; the verdict is about this range alone. All "
        "intervals are over training seeds: every run of a testbed is evaluated on the same "
        "held-out problems, and how other problems would come out is not in them."
    )


def _claims(ruled: Sequence[Ruled]) -> str:
    lines = [
        "| claim | number | result | p (Holm) | seeds | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for one in ruled:
        pair = one.finding.paired
        measure = one.claim.measure + (f"; {one.finding.remark}" if one.finding.remark else "")
        result, p, n = "", "", ""
        if pair is not None:
            n = str(pair.n)
            ends = pair.t_interval
            result = f"{pair.difference:+.3g}" + (
                f" ({ends[0]:+.3g} to {ends[1]:+.3g})" if ends else ""
            )
            p = "" if one.p_holm is None else f"{one.p_holm:.2g}"
        lines.append(
            f"| {one.claim.sentence} | {measure} | {result} | {p} | {n} | "
            f"{MARKS.get(one.ruling, one.ruling)} |"
        )
    return "\n".join(lines)


def _arms_legend(rows: pd.DataFrame) -> str:
    hundred = rows.assign(tokens=100 * rows["tokens"] / rows["iterations"])
    means = hundred.groupby(["part", "method"])["tokens"].mean()
    chain = means.index.get_level_values("part") == "chain"
    told = " and ".join(
        f"{m.min():,.0f} to {m.max():,.0f}" for m in (means[~chain], means[chain]) if len(m)
    )
    return (
        "Mean ± sample standard deviation over seeds. Reward, entropy (nats) and unsolved "
        "prompts: training prompts, last ten iterations; the rest: held-out problems at "
        "temperature 1. Runs of a table have the same number of rollouts, and answers one "
        f"length, so budgets of tokens are equal too: {told} tokens generated in 100 iterations "
        "(means of the methods)."
    )


def _arms(part: Part, rows: pd.DataFrame) -> list[str]:
    """A table of the part's arms.

    For the grid of exponents the figure and the file of runs say more.
    """
    members = rows[rows["part"] == part.name] if len(rows) else rows
    if members.empty:
        return [f"### {part.name}", "Not run."]
    if part.name == "exponents":
        return []
    keys = [
        "method",
        *[name for name in VARYING if name in members and members[name].nunique() > 1],
    ]
    lines = [
        "| method | " + " | ".join([*keys[1:], "seeds", *COLUMNS.values()]) + " |",
        "|---" * (len(keys) + 1 + len(COLUMNS)) + "|",
    ]
    for values, arm in members.groupby(keys, dropna=False):
        settings = [shown(float(v)) if v == v else "" for v in values[1:]]
        cells = [
            f"{arm[c].mean():.3f}" + (f" ± {arm[c].std():.3f}" if len(arm) > 1 else "")
            for c in COLUMNS
        ]
        lines.append("| " + " | ".join([NAMES[values[0]], *settings, str(len(arm)), *cells]) + " |")
    where = f"`conf/sweep/study/{part.sweep}.yaml` with `conf/experiment/study/{part.recipe}.yaml`"
    return [
        f"### {part.name}",
        where + (f", warm start {part.warm_start}" if part.warm_start else ""),
        "\n".join(lines),
    ]


def _statistics(families: Families) -> list[dict[str, Any]]:
    return [
        {
            "family": family,
            "claim": one.claim.sentence,
            "measure": one.claim.measure,
            "expected": one.claim.expected,
            "remark": one.finding.remark,
            "crossing": one.finding.crossing,
            "paired": as_json(one.finding.paired),
            "p_holm": one.p_holm,
            "verdict": one.ruling,
        }
        for family, ruled in families.items()
        for one in ruled
    ]


def count(families: Families) -> str:
    """How many claims have which verdict, for the terminal."""
    rulings = [one.ruling for ruled in families.values() for one in ruled]
    return ", ".join(f"{rulings.count(ruling)} {ruling}" for ruling in Ruling if ruling in rulings)
