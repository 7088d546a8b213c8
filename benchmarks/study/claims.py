"""The claims and measurements of the study, each with its number; see also pairs.py.

Each family of claims is corrected by itself. All families but those that say so were written before
a frontier was seen.
"""

import numpy as np
import pandas as pd

from benchmarks.study.judge import Claim, at, best, front, rise, trend
from benchmarks.study.pairs import (
    ACCURACY,
    ENTROPY,
    MORE_ACCURATE,
    MORE_ENTROPY,
    MORE_SOLUTIONS,
    PASS_8,
    ablations,
    added,
    against,
    main_claims,
    of,
    pair,
)
from benchmarks.study.plan import MIDDLE


def _difference(rows: pd.DataFrame) -> list[pd.Series]:
    return [rows["beta_pos"] - rows["beta_neg"], rows["beta_pos"] + rows["beta_neg"]]


def _sum(rows: pd.DataFrame) -> list[pd.Series]:
    return _difference(rows)[::-1]


def _exponents() -> list[Claim]:
    grid = of("exponents", "asymgrpo")

    def positive(rows: pd.DataFrame) -> list[pd.Series]:
        return [rows["beta_pos"], rows["beta_neg"]]

    def negative(rows: pd.DataFrame) -> list[pd.Series]:
        return positive(rows)[::-1]

    slope = "slope over the grid of exponents, {} held"
    return [
        Claim(
            "A larger beta_pos leaves fewer training prompts unsolved",
            f"unsolved: {slope.format('beta_neg')}",
            -1,
            trend(grid, "unsolved", positive),
        ),
        Claim(
            "A larger beta_pos keeps more entropy",
            f"entropy: {slope.format('beta_neg')}",
            1,
            trend(grid, "entropy", positive),
        ),
        Claim(
            "A larger beta_neg gains more log-probability on right rollouts",
            f"log-prob gain of positives: {slope.format('beta_pos')}",
            1,
            trend(grid, "gain_positive", negative),
        ),
        Claim(
            "A larger beta_neg keeps less entropy",
            f"entropy: {slope.format('beta_pos')}",
            -1,
            trend(grid, "entropy", negative),
        ),
        Claim(
            "beta_neg of 0.75 is too much: it is less accurate than 0.5",
            "pass@1, at beta_pos 0.9",
            -1,
            at(
                {**grid, "beta_pos": 0.9, "beta_neg": 0.75},
                {**grid, "beta_pos": 0.9, "beta_neg": 0.5},
                "pass@1",
            ),
        ),
        Claim(
            "At an equal sum, a larger beta_pos - beta_neg finds more within 8 samples",
            "pass@8: slope over the difference, the sum held",
            1,
            trend(grid, "pass@8", _difference),
        ),
        Claim(
            "At an equal difference, a larger beta_pos + beta_neg finds fewer within 8 samples",
            "pass@8: slope over the sum, the difference held",
            -1,
            trend(grid, "pass@8", _sum),
        ),
        Claim(
            "At an equal sum, a larger beta_pos - beta_neg costs accuracy",
            "pass@1: slope over the difference, the sum held",
            -1,
            trend(grid, "pass@1", _difference),
        ),
    ]


def _entropy_bonus() -> list[Claim]:
    coefficients = {"method": "grpo_entropy", "learning_rate": MIDDLE, "part": "coefficients"}

    def logarithm(rows: pd.DataFrame) -> list[pd.Series]:
        return [pd.Series(np.log10(rows["coefficient"].astype(float)))]

    bonus, pos_only = of("entropy", "grpo_entropy"), of("frontier", "pos_only")
    combined, ours = of("entropy", "asymgrpo_entropy"), of("frontier", "asymgrpo")
    return [
        Claim(
            "A larger coefficient keeps more entropy",
            "entropy: slope over log10 of the coefficient, at 3e-4",
            1,
            trend(coefficients, "entropy", logarithm),
        ),
        Claim(
            "An entropy bonus does not reach Pos-Only's accuracy",
            ACCURACY,
            -1,
            best(bonus, pos_only, "pass@1"),
        ),
        Claim(
            "An entropy bonus added to AsymGRPO makes it more accurate",
            ACCURACY,
            1,
            best(combined, ours, "pass@1"),
        ),
        Claim(
            "An entropy bonus added to AsymGRPO finds more within 8 samples",
            PASS_8,
            1,
            front(combined, ours, "pass@8"),
        ),
    ]


def _two_updates() -> list[Claim]:
    part = "two_updates"
    return [
        *pair(part, "asymgrpo", "grpo", ("AsymGRPO", "GRPO"), [MORE_ACCURATE, MORE_SOLUTIONS]),
        *pair(
            part,
            "grpo_clip_higher",
            "grpo",
            ("GRPO with clip-higher", "GRPO"),
            [MORE_ACCURATE, MORE_SOLUTIONS],
        ),
        *pair(
            part,
            "asymgrpo",
            "grpo_clip_higher",
            ("AsymGRPO", "GRPO with clip-higher"),
            [MORE_ACCURATE, MORE_SOLUTIONS],
        ),
        *pair(
            part,
            "asymgrpo_clip_higher",
            "asymgrpo",
            ("AsymGRPO with clip-higher", "AsymGRPO"),
            [MORE_ACCURATE, MORE_SOLUTIONS],
        ),
        *pair(part, "asymgrpo", "gspo", ("AsymGRPO", "GSPO"), [MORE_ACCURATE, MORE_SOLUTIONS]),
    ]


def _controls() -> list[Claim]:
    claims = [
        Claim(
            "AsymGRPO's shape at GRPO's scale (equal_scale) finds more within 8 samples than GRPO",
            PASS_8,
            1,
            front(of("scale", "asymgrpo"), of("frontier", "grpo"), "pass@8"),
        )
    ]
    places = [(f"in groups of {g}", f"group_of_{g}") for g in (4, 16)] + [
        (f"from warm start {i}", f"warm_start_{i}") for i in (1, 2)
    ]
    for where, part in places:
        ours, theirs = of(part, "asymgrpo"), of(part, "grpo")
        claims.append(
            Claim(
                f"AsymGRPO finds more within 8 samples than GRPO {where}",
                PASS_8,
                1,
                front(ours, theirs, "pass@8"),
            )
        )
        claims.append(
            Claim(
                f"AsymGRPO keeps more entropy than GRPO {where}",
                ENTROPY,
                1,
                front(ours, theirs, "entropy"),
            )
        )
    for method, name in (
        ("reinforce", "REINFORCE"),
        ("pos_only", "Pos-Only"),
        ("neg_only", "Neg-Only"),
    ):
        kept, zeroed = of("frontier", method, learning_rate=MIDDLE), of("degenerate", method)
        words = f"{name} finds fewer within 8 samples without groups of equal rewards"
        claims.append(Claim(words, "pass@8 at 3e-4", -1, at(zeroed, kept, "pass@8")))
    return claims


def _coefficients() -> list[Claim]:
    ours = of("frontier", "asymgrpo", learning_rate=MIDDLE)
    claims = []
    for coefficient in (1e-4, 1e-3, 5e-3, 1e-2, 5e-2):  # each is in one part
        theirs = {"method": "grpo_entropy", "learning_rate": MIDDLE, "coefficient": coefficient}
        name = f"GRPO with an entropy bonus of {coefficient:g}"
        claims.append(
            Claim(
                f"AsymGRPO is more accurate than {name}",
                "pass@1 at 3e-4",
                1,
                at(ours, theirs, "pass@1"),
            )
        )
        claims.append(
            Claim(
                f"AsymGRPO finds more within 8 samples than {name}",
                "pass@8 at 3e-4",
                1,
                at(ours, theirs, "pass@8"),
            )
        )
    return claims


def _budgets() -> list[Claim]:
    return [
        claim
        for iterations in (50, 200)
        for claim in pair(
            f"iterations_{iterations}",
            "asymgrpo",
            "grpo",
            (f"After {iterations} iterations AsymGRPO", "GRPO"),
            [MORE_ACCURATE, MORE_ENTROPY, MORE_SOLUTIONS],
        )
    ]


def _covariance(part: str) -> list[Claim]:
    """Quarter against quarter of the group's accuracy p.

    The covariance is 2p(1-p) times a difference, so it is 0 at either end of p, and a slope over p
    says little.
    """
    return [
        Claim(
            f"The covariance of log-prob and outcome is larger in the {words} under {name}",
            f"covariance, p from {upper} on minus p from {lower} on, at 3e-4",
            1,
            rise(
                of(part, method, learning_rate=MIDDLE), f"covariance_{lower}", f"covariance_{upper}"
            ),
        )
        for lower, upper, words in (
            ("0.00", "0.50", "third quarter of group accuracy than in the first"),
            ("0.50", "0.75", "fourth quarter of group accuracy than in the third"),
        )
        for method, name in (("reinforce", "REINFORCE"), ("grpo", "GRPO"), ("asymgrpo", "AsymGRPO"))
    ]


ADDED = "Added after the first frontiers were seen"
RESTATED = "Restated after its numbers were seen: covariance by group accuracy"
_FLIPS = [("is less accurate than", ACCURACY, -1)]
FULL = {
    "AsymGRPO against GRPO": main_claims("frontier"),
    "Which side accuracy shapes": [
        *ablations("frontier"),
        *pair("frontier", "ent_decrease", "grpo", ("EntDecrease", "GRPO"), _FLIPS),
        *pair("frontier", "ent_increase", "grpo", ("EntIncrease", "GRPO"), _FLIPS),
    ],
    "Exponents": _exponents(),
    "AsymGRPO against the paper's other methods": against(
        [
            ("frontier", "reinforce", "REINFORCE"),
            ("frontier", "dr_grpo", "Dr.GRPO"),
            ("entropy", "grpo_entropy", "GRPO with an entropy bonus"),
        ]
    ),
    "Entropy bonus": _entropy_bonus(),
    "AsymGRPO against further rivals": against(
        [
            ("rivals", "maxrl", "MaxRL"),
            ("rivals", "pass_at_k", "Pass@k training"),
            ("rivals", "f_grpo", "F-GRPO"),
            ("rivals", "asymgrpo_adaptive", "steered exponents (asymgrpo_adaptive)"),
        ]
    ),
    "Two updates per iteration": _two_updates(),
    "Controls": _controls(),
    "Second testbed: chain countdown": [*main_claims("chain"), *ablations("chain")],
    f"{ADDED}: AsymGRPO against GRPO, pairs countdown": added("frontier"),
    f"{ADDED}: AsymGRPO against GRPO, chain countdown": added("chain"),
    f"{ADDED}: AsymGRPO against REINFORCE, pairs countdown": added(
        "frontier", "REINFORCE", "reinforce"
    ),
    f"{ADDED}: half and twice the budget of rollouts, pairs countdown": _budgets(),
    f"{ADDED}: AsymGRPO against every coefficient of the entropy bonus": _coefficients(),
    f"{RESTATED}, pairs countdown": _covariance("frontier"),
    f"{RESTATED}, chain countdown": _covariance("chain"),
}
QUICK = {
    "AsymGRPO against GRPO": main_claims("quick"),
    "AsymGRPO against REINFORCE": pair(
        "quick",
        "asymgrpo",
        "reinforce",
        ("AsymGRPO", "REINFORCE"),
        [MORE_ACCURATE, MORE_ENTROPY, MORE_SOLUTIONS],
    ),
    RESTATED: _covariance("quick"),
}
