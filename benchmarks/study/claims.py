"""What the study claims or re-measures, each with its number; families are corrected one by one. All but the families that say so were
written before a frontier was seen."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from benchmarks.study.judge import Claim, Finding, Selection, at, best, front, rise, same, trend
from benchmarks.study.plan import MIDDLE

ACCURACY = "pass@1, each at its best learning rate"
ENTROPY = "frontier of entropy against reward"
PASS_8 = "frontier of pass@8 against reward"
PASS_8_BY_PASS_1 = "frontier of pass@8 against held-out pass@1"
PASS_64 = "frontier of pass@64 against reward"
SOLVED = "frontier of solved prompts (by any rollout) against reward"


def of(part: str, method: str, **settings: object) -> Selection:
    """The runs of a method in a part of the study."""
    return {"part": part, "method": method, **settings}


def _pair(part: str, one: str, other: str, names: tuple[str, str], told: Sequence[tuple[str, str, int]]) -> list[Claim]:
    """Claims of two methods of a part: each of ``told`` is (words, measure, expected side)."""
    a, b = of(part, one), of(part, other)
    ways: dict[str, Callable[[pd.DataFrame], Finding]] = {
        ACCURACY: best(a, b, "pass@1"),
        ENTROPY: front(a, b, "entropy"),
        PASS_8: front(a, b, "pass@8"),
        PASS_64: front(a, b, "pass@64"),
        SOLVED: front(a, b, "solved"),
    }
    return [Claim(f"{names[0]} {words} {names[1]}", measure, expected, ways[measure]) for words, measure, expected in told]


MORE_ACCURATE = ("is more accurate than", ACCURACY, 1)
MORE_ENTROPY = ("keeps more entropy than", ENTROPY, 1)
MORE_SOLUTIONS = ("finds more within 8 samples than", PASS_8, 1)


def ablations(part: str) -> list[Claim]:
    """Which side accuracy shapes (paper, section on ablations)."""
    return [
        *_pair(part, "pos_only", "reinforce", ("Pos-Only", "REINFORCE"), [MORE_ENTROPY, MORE_ACCURATE]),
        *_pair(part, "neg_only", "reinforce", ("Neg-Only", "REINFORCE"), [("keeps less entropy than", ENTROPY, -1), MORE_ACCURATE]),
    ]


def main_claims(part: str) -> list[Claim]:
    """AsymGRPO against GRPO."""
    more = ("finds more within 64 samples than", PASS_64, 1)
    solved = ("leaves fewer training prompts unsolved than", SOLVED, 1)
    return _pair(part, "asymgrpo", "grpo", ("AsymGRPO", "GRPO"), [MORE_ACCURATE, MORE_ENTROPY, MORE_SOLUTIONS, more, solved])


def added(part: str, name: str = "GRPO", other: str = "grpo") -> list[Claim]:
    """AsymGRPO against another method at equal learning rates, and on frontiers whose first axis is less noisy than the reward of ten
    iterations: added when the first frontiers had been seen, so that they stand beside the claims above and do not replace them."""
    a, b = of(part, "asymgrpo"), of(part, other)
    rate = "at the same learning rate, mean over five"
    return [
        Claim(f"AsymGRPO is more accurate than {name}", f"pass@1 {rate}", 1, same(a, b, "pass@1")),
        Claim(f"AsymGRPO keeps more entropy than {name}", f"entropy {rate}", 1, same(a, b, "entropy")),
        Claim(f"AsymGRPO finds more within 8 samples than {name}", f"pass@8 {rate}", 1, same(a, b, "pass@8")),
        Claim(f"AsymGRPO finds more within 8 samples than {name}", PASS_8_BY_PASS_1, 1, front(a, b, "pass@8", "pass@1")),
    ]


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
        Claim("A larger beta_pos keeps more entropy", f"entropy: {slope.format('beta_neg')}", 1, trend(grid, "entropy", positive)),
        Claim(
            "A larger beta_neg gains more log-probability on right rollouts",
            f"log-prob gain of positives: {slope.format('beta_pos')}",
            1,
            trend(grid, "gain_positive", negative),
        ),
        Claim("A larger beta_neg keeps less entropy", f"entropy: {slope.format('beta_pos')}", -1, trend(grid, "entropy", negative)),
        Claim(
            "beta_neg of 0.75 is too much: it is less accurate than 0.5",
            "pass@1, at beta_pos 0.9",
            -1,
            at({**grid, "beta_pos": 0.9, "beta_neg": 0.75}, {**grid, "beta_pos": 0.9, "beta_neg": 0.5}, "pass@1"),
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


def _against(rivals: Sequence[tuple[str, str, str]]) -> list[Claim]:
    """AsymGRPO against each of (part, method, name)."""
    ours = of("frontier", "asymgrpo")
    return [
        claim
        for part, method, name in rivals
        for claim in (
            Claim(f"AsymGRPO is more accurate than {name}", ACCURACY, 1, best(ours, of(part, method), "pass@1")),
            Claim(f"AsymGRPO finds more within 8 samples than {name}", PASS_8, 1, front(ours, of(part, method), "pass@8")),
        )
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
        Claim("An entropy bonus does not reach Pos-Only's accuracy", ACCURACY, -1, best(bonus, pos_only, "pass@1")),
        Claim("An entropy bonus added to AsymGRPO makes it more accurate", ACCURACY, 1, best(combined, ours, "pass@1")),
        Claim("An entropy bonus added to AsymGRPO finds more within 8 samples", PASS_8, 1, front(combined, ours, "pass@8")),
    ]


def _two_updates() -> list[Claim]:
    part = "two_updates"
    return [
        *_pair(part, "asymgrpo", "grpo", ("AsymGRPO", "GRPO"), [MORE_ACCURATE, MORE_SOLUTIONS]),
        *_pair(part, "grpo_clip_higher", "grpo", ("GRPO with clip-higher", "GRPO"), [MORE_ACCURATE, MORE_SOLUTIONS]),
        *_pair(part, "asymgrpo", "grpo_clip_higher", ("AsymGRPO", "GRPO with clip-higher"), [MORE_ACCURATE, MORE_SOLUTIONS]),
        *_pair(part, "asymgrpo_clip_higher", "asymgrpo", ("AsymGRPO with clip-higher", "AsymGRPO"), [MORE_ACCURATE, MORE_SOLUTIONS]),
        *_pair(part, "asymgrpo", "gspo", ("AsymGRPO", "GSPO"), [MORE_ACCURATE, MORE_SOLUTIONS]),
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
    places = [(f"in groups of {g}", f"group_of_{g}") for g in (4, 16)] + [(f"from warm start {i}", f"warm_start_{i}") for i in (1, 2)]
    for where, part in places:
        ours, theirs = of(part, "asymgrpo"), of(part, "grpo")
        claims.append(Claim(f"AsymGRPO finds more within 8 samples than GRPO {where}", PASS_8, 1, front(ours, theirs, "pass@8")))
        claims.append(Claim(f"AsymGRPO keeps more entropy than GRPO {where}", ENTROPY, 1, front(ours, theirs, "entropy")))
    for method, name in (("reinforce", "REINFORCE"), ("pos_only", "Pos-Only"), ("neg_only", "Neg-Only")):
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
        claims.append(Claim(f"AsymGRPO is more accurate than {name}", "pass@1 at 3e-4", 1, at(ours, theirs, "pass@1")))
        claims.append(Claim(f"AsymGRPO finds more within 8 samples than {name}", "pass@8 at 3e-4", 1, at(ours, theirs, "pass@8")))
    return claims


def _budgets() -> list[Claim]:
    return [
        claim
        for iterations in (50, 200)
        for claim in _pair(
            f"iterations_{iterations}",
            "asymgrpo",
            "grpo",
            (f"After {iterations} iterations AsymGRPO", "GRPO"),
            [MORE_ACCURATE, MORE_ENTROPY, MORE_SOLUTIONS],
        )
    ]


def _covariance(part: str) -> list[Claim]:
    """Quarter against quarter: the covariance is 2p(1-p) times a difference, so 0 at either end of p, and a slope over p says little."""
    return [
        Claim(
            f"The covariance of log-prob and outcome is larger in the {words} under {name}",
            f"covariance, p from {upper} on minus p from {lower} on, at 3e-4",
            1,
            rise(of(part, method, learning_rate=MIDDLE), f"covariance_{lower}", f"covariance_{upper}"),
        )
        for lower, upper, words in (
            ("0.00", "0.50", "third quarter of group accuracy than in the first"),
            ("0.50", "0.75", "fourth quarter of group accuracy than in the third"),
        )
        for method, name in (("reinforce", "REINFORCE"), ("grpo", "GRPO"), ("asymgrpo", "AsymGRPO"))
    ]


_FLIPS = [("is less accurate than", ACCURACY, -1)]
FULL = {
    "AsymGRPO against GRPO": main_claims("frontier"),
    "Which side accuracy shapes": [
        *ablations("frontier"),
        *_pair("frontier", "ent_decrease", "grpo", ("EntDecrease", "GRPO"), _FLIPS),
        *_pair("frontier", "ent_increase", "grpo", ("EntIncrease", "GRPO"), _FLIPS),
    ],
    "Exponents": _exponents(),
    "AsymGRPO against the paper's other methods": _against(
        [
            ("frontier", "reinforce", "REINFORCE"),
            ("frontier", "dr_grpo", "Dr.GRPO"),
            ("entropy", "grpo_entropy", "GRPO with an entropy bonus"),
        ]
    ),
    "Entropy bonus": _entropy_bonus(),
    "AsymGRPO against further rivals": _against(
        [
            *(("rivals", "maxrl", "MaxRL"), ("rivals", "pass_at_k", "Pass@k training"), ("rivals", "f_grpo", "F-GRPO")),
            ("rivals", "asymgrpo_adaptive", "steered exponents (asymgrpo_adaptive)"),
        ]
    ),
    "Two updates per iteration": _two_updates(),
    "Controls": _controls(),
    "Second testbed: chain countdown": [*main_claims("chain"), *ablations("chain")],
    "Added after the first frontiers were seen: AsymGRPO against GRPO, pairs countdown": added("frontier"),
    "Added after the first frontiers were seen: AsymGRPO against GRPO, chain countdown": added("chain"),
    "Added after the first frontiers were seen: AsymGRPO against REINFORCE, pairs countdown": added("frontier", "REINFORCE", "reinforce"),
    "Added after the first frontiers were seen: half and twice the budget of rollouts, pairs countdown": _budgets(),
    "Added after the first frontiers were seen: AsymGRPO against every coefficient of the entropy bonus": _coefficients(),
    "Restated after its numbers were seen: covariance by group accuracy, pairs countdown": _covariance("frontier"),
    "Restated after its numbers were seen: covariance by group accuracy, chain countdown": _covariance("chain"),
}
QUICK = {
    "AsymGRPO against GRPO": main_claims("quick"),
    "AsymGRPO against REINFORCE": _pair(
        "quick", "asymgrpo", "reinforce", ("AsymGRPO", "REINFORCE"), [MORE_ACCURATE, MORE_ENTROPY, MORE_SOLUTIONS]
    ),
    "Restated after its numbers were seen: covariance by group accuracy": _covariance("quick"),
}
