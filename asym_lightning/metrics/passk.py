"""pass@k from n samples per problem."""

from math import comb


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased probability that at least one of k samples is correct, given c correct among n.

    1 - C(n-c,k)/C(n,k). Source: Chen et al. 2021 (arXiv 2107.03374), equation 1.

    Raises:
        ValueError: k is not between 1 and n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs 1 <= k <= n = {n}")
    return 1.0 - comb(n - c, k) / comb(n, k)


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4 ... below n, and n: the k of a pass@k curve."""
    return [*(1 << i for i in range((n - 1).bit_length())), n] if n > 1 else [1]
