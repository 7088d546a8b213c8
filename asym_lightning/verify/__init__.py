"""From the text of a completion to a verdict, computed in a jail."""


def score_math(completions: list[str], references: list[str]) -> list[float]:
    """Return the rewards of mathematical completions against their reference answers, in order.

    The reward is 1.0 for a correct answer, else 0.0. The answer is the last ``\\boxed{}`` of a
    completion. The worker processes stay for the next call. Raises ``ValueError`` when the lists
    differ in length.
    """
    from asym_lightning.verify.math import shared_verifier

    truncated = [False] * len(completions)
    verdicts = shared_verifier().score(completions, references, truncated)
    return [verdict.reward for verdict in verdicts]
