"""A data module over ten problems, and rollout groups for it to observe."""

from collections.abc import Mapping
from typing import Any

from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.tasks.order import Difficulty
from asym_lightning.types import Completion, Kind, Problem, Prompt, RolloutGroup, Verdict

# Ten problems, 0 to 9.
PROMPTS = [Prompt(Problem(str(i), "", ""), (1,)) for i in range(10)]


def data(difficulty: Difficulty | None = None, size: int = 4) -> RolloutDataModule:
    tokenizer: Any = None
    return RolloutDataModule(
        PROMPTS,
        tokenizer,
        size,
        prompts_per_mini_batch=size,
        tokens_per_micro_batch=10,
        seed=3,
        difficulty=difficulty,
    )


def served(module: RolloutDataModule, iteration: int, rank: int = 0, world: int = 1) -> list[int]:
    return [int(prompt.problem.id) for _, prompt in module.prompts(iteration, rank, world)]


def group(problem: int | str, correct: int, size: int = 4) -> RolloutGroup:
    correct_verdict, wrong = Verdict(1.0, Kind.CORRECT), Verdict(0.0, Kind.WRONG)
    verdicts = [correct_verdict] * correct + [wrong] * (size - correct)
    prompt = Prompt(Problem(str(problem), "", ""), (1,))
    return RolloutGroup(prompt, [Completion([1], [0.0], "", False)] * size, verdicts)


def observe(module: RolloutDataModule, correct: Mapping[int, int]) -> None:
    """Let the data module observe a group of four per problem, with this many correct rollouts."""
    module.observe([group(problem, count) for problem, count in correct.items()])
