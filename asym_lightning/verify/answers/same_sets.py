"""Two sets of real numbers, or two relations, compared."""

from typing import Any

import sympy

from asym_lightning.verify.answers import forms as f
from asym_lightning.verify.answers.equal import equal


def same_sets(first: Any, second: Any) -> bool:
    """Return whether two sets of real numbers are equal, end by end."""
    if first == second:
        return True
    pieces, others = _pieces(first), _pieces(second)
    if len(pieces) != len(others):
        return False
    return all(
        a[2:] == b[2:] and equal(a[0], b[0]) and equal(a[1], b[1])
        for a, b in zip(pieces, others, strict=True)
    )


def _pieces(region: Any) -> list[tuple[Any, Any, bool, bool]]:
    """Return the intervals of a set in order, points among them."""
    if region is sympy.S.EmptySet:
        return []
    if region == sympy.S.Reals:
        return [(-sympy.oo, sympy.oo, True, True)]
    if isinstance(region, sympy.Interval):
        return [(region.start, region.end, bool(region.left_open), bool(region.right_open))]
    if isinstance(region, sympy.FiniteSet):
        return [(end, end, False, False) for end in sorted(region, key=lambda end: end.evalf(30))]
    if isinstance(region, sympy.Union):
        pieces = [piece for part in region.args for piece in _pieces(part)]
        return sorted(pieces, key=lambda piece: (piece[0].evalf(30), piece[1].evalf(30)))
    raise f.TooLarge("a set that is not computed")


def same_relations(answer: f.Relation, reference: f.Relation) -> bool:
    """Return whether two relations differ by a factor alone, positive for inequalities."""
    flips = {">": "<", ">=": "<="}
    sides = []
    for relation in (answer, reference):
        lhs, sign, rhs = relation.lhs, relation.sign, relation.rhs
        if sign in flips:
            lhs, sign, rhs = rhs, flips[sign], lhs
        sides.append((sign, lhs - rhs))
    (sign, first), (other_sign, second) = sides
    if sign != other_sign or first == 0 or second == 0:
        return False
    if first.free_symbols != second.free_symbols:
        return False
    point = {
        symbol: sympy.Rational(7 + 2 * i, 3 + i)
        for i, symbol in enumerate(sorted(first.free_symbols, key=str))
    }
    here, there = first.xreplace(point), second.xreplace(point)
    if here.free_symbols or there.free_symbols or here == 0 or there == 0:
        return False
    factor = here / there
    if equal(first, sympy.S.Zero):
        return False
    if sign in ("<", "<=") and not factor.is_positive:
        return False
    return equal(first, sympy.expand(factor * second))
