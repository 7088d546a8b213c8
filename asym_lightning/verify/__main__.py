"""``python -m asym_lightning.verify "ANSWER" "REFERENCE"``: the verdict, both forms and why."""

import argparse
import sys
from collections.abc import Sequence

from asym_lightning.types import Kind, PartError, Verdict
from asym_lightning.verify.extract import last_boxed
from asym_lightning.verify.math import MathVerifier, text_of
from asym_lightning.verify.pool import WorkerPool

_SCORER = "asym_lightning.verify.math_scorer:make_explained"
_TIMEOUT_S, _MEMORY_GB, _MAX_CHARS = 5.0, 4.0, 1000


def explain(answer: str, reference: str) -> tuple[Verdict, str]:
    """Return the verdict on an answer, with its parsed form, and the form of the reference.

    An answer with a ``\\boxed{}`` is taken for a completion. Raises ``ValueError`` for an empty or
    too long text, and ``RuntimeError`` when the worker cannot start.
    """
    boxed, has_box = last_boxed(answer)
    text = text_of(answer, boxed, _MAX_CHARS) if has_box and boxed else answer
    for name, value in (("answer", text), ("reference", reference)):
        if not 0 < len(value.strip()) <= _MAX_CHARS:
            raise ValueError(f"the {name} has {len(value)} characters; 1 to {_MAX_CHARS} are read")
    pool = WorkerPool(_SCORER, {}, _TIMEOUT_S, workers=1, memory_gb=_MEMORY_GB)
    try:
        verdict, itself = pool.score([(text, reference), (reference, reference)])
    finally:
        pool.close()
    return verdict, itself.answer or itself.detail


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the verdict. Exit status 0: correct, 1: not correct, 2: it cannot be judged."""
    parser = argparse.ArgumentParser(
        prog="python -m asym_lightning.verify",
        description="Say whether an answer is right, how both texts are read, and why.",
    )
    parser.add_argument("answer", help="an answer, or a completion with a \\boxed{}")
    parser.add_argument("reference", help="the reference answer")
    # A text that begins with a minus sign is an answer, not an option.
    given = list(sys.argv[1:] if arguments is None else arguments)
    asks = any(word in ("-h", "--help") for word in given)
    options = parser.parse_args(given if asks or "--" in given else ["--", *given])
    try:
        MathVerifier()  # says so where math-verify is missing
        verdict, expected = explain(options.answer, options.reference)
    except (ValueError, RuntimeError, PartError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"verdict:   {verdict.kind}")
    print(f"why:       {verdict.detail}")
    print(f"answer:    {verdict.answer if verdict.answer is not None else 'not read'}")
    print(f"reference: {expected}")
    return 0 if verdict.kind is Kind.CORRECT else 1


if __name__ == "__main__":
    sys.exit(main())
