"""From a completion's text to a verdict, computed in a jail."""


def score_math(completions: list[str], answers: list[str]) -> list[float]:
    """Rewards (1.0 right, 0.0 otherwise) of mathematical completions against their reference answers, in order.

    Takes the last ``\\boxed{}`` of each completion. The worker processes are kept for the next call. Raises ``ValueError`` when the
    lists differ in length.
    """
    from asym_lightning.verify.math import shared_verifier

    return [verdict.reward for verdict in shared_verifier().score(completions, answers, [False] * len(completions))]
