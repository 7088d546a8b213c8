"""Claims about two methods: accuracy at their best learning rates, and frontiers."""

from collections.abc import Callable, Sequence

import pandas as pd

from benchmarks.study.judge import Claim, Finding, Selection, best, front, same

ACCURACY = "pass@1, each at its best learning rate"
ENTROPY = "frontier of entropy against reward"
PASS_8 = "frontier of pass@8 against reward"
PASS_8_BY_PASS_1 = "frontier of pass@8 against held-out pass@1"
PASS_64 = "frontier of pass@64 against reward"
SOLVED = "frontier of solved prompts (by any rollout) against reward"


def of(part: str, method: str, **settings: object) -> Selection:
    """The runs of a method in a part of the study."""
    return {"part": part, "method": method, **settings}


def pair(
    part: str, one: str, other: str, names: tuple[str, str], told: Sequence[tuple[str, str, int]]
) -> list[Claim]:
    """Claims of two methods of a part: each of ``told`` is (words, measure, expected side)."""
    a, b = of(part, one), of(part, other)
    ways: dict[str, Callable[[pd.DataFrame], Finding]] = {
        ACCURACY: best(a, b, "pass@1"),
        ENTROPY: front(a, b, "entropy"),
        PASS_8: front(a, b, "pass@8"),
        PASS_64: front(a, b, "pass@64"),
        SOLVED: front(a, b, "solved"),
    }
    return [
        Claim(f"{names[0]} {words} {names[1]}", measure, expected, ways[measure])
        for words, measure, expected in told
    ]


MORE_ACCURATE = ("is more accurate than", ACCURACY, 1)
MORE_ENTROPY = ("keeps more entropy than", ENTROPY, 1)
MORE_SOLUTIONS = ("finds more within 8 samples than", PASS_8, 1)


def ablations(part: str) -> list[Claim]:
    """The side that accuracy shapes (paper, section on ablations)."""
    return [
        *pair(
            part, "pos_only", "reinforce", ("Pos-Only", "REINFORCE"), [MORE_ENTROPY, MORE_ACCURATE]
        ),
        *pair(
            part,
            "neg_only",
            "reinforce",
            ("Neg-Only", "REINFORCE"),
            [("keeps less entropy than", ENTROPY, -1), MORE_ACCURATE],
        ),
    ]


def main_claims(part: str) -> list[Claim]:
    """AsymGRPO against GRPO."""
    more = ("finds more within 64 samples than", PASS_64, 1)
    solved = ("leaves fewer training prompts unsolved than", SOLVED, 1)
    return pair(
        part,
        "asymgrpo",
        "grpo",
        ("AsymGRPO", "GRPO"),
        [MORE_ACCURATE, MORE_ENTROPY, MORE_SOLUTIONS, more, solved],
    )


def added(part: str, name: str = "GRPO", other: str = "grpo") -> list[Claim]:
    """AsymGRPO against another method, on numbers added after the first frontiers had been seen.

    They are differences at equal learning rates, and frontiers whose first axis is less noisy than
    the reward of ten iterations. They stand beside the main claims and do not replace them.
    """
    a, b = of(part, "asymgrpo"), of(part, other)
    rate = "at the same learning rate, mean over five"
    return [
        Claim(f"AsymGRPO is more accurate than {name}", f"pass@1 {rate}", 1, same(a, b, "pass@1")),
        Claim(
            f"AsymGRPO keeps more entropy than {name}", f"entropy {rate}", 1, same(a, b, "entropy")
        ),
        Claim(
            f"AsymGRPO finds more within 8 samples than {name}",
            f"pass@8 {rate}",
            1,
            same(a, b, "pass@8"),
        ),
        Claim(
            f"AsymGRPO finds more within 8 samples than {name}",
            PASS_8_BY_PASS_1,
            1,
            front(a, b, "pass@8", "pass@1"),
        ),
    ]


def against(rivals: Sequence[tuple[str, str, str]]) -> list[Claim]:
    """AsymGRPO against each of (part, method, name)."""
    ours = of("frontier", "asymgrpo")
    return [
        claim
        for part, method, name in rivals
        for claim in (
            Claim(
                f"AsymGRPO is more accurate than {name}",
                ACCURACY,
                1,
                best(ours, of(part, method), "pass@1"),
            ),
            Claim(
                f"AsymGRPO finds more within 8 samples than {name}",
                PASS_8,
                1,
                front(ours, of(part, method), "pass@8"),
            ),
        )
    ]
