"""A data module over ten problems, and what it observes."""

from collections.abc import Mapping

from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.tasks.order import Difficulty
from asym_lightning.types import Completion, Kind, Problem, Prompt, RolloutGroup, Verdict


class Ten:
    """Ten problems, 0 to 9."""

    name, heldout, notes = "ten", (), ()

    def __init__(self) -> None:
        self.train = [Problem(str(i), "", "") for i in range(10)]

    def encode(self, problem: Problem, tokenizer: object) -> list[int]:
        return [1]


def data(difficulty: Difficulty | None = None, size: int = 4) -> RolloutDataModule:
    return RolloutDataModule(Ten(), None, size, size, 10, 3, difficulty=difficulty)  # type: ignore[arg-type]


def served(module: RolloutDataModule, iteration: int, rank: int = 0, world: int = 1) -> list[int]:
    return [int(prompt.problem.id) for _, prompt in module.prompts(iteration, rank, world)]


def group(problem: int | str, right: int, size: int = 4) -> RolloutGroup:
    verdicts = [Verdict(1.0, Kind.CORRECT)] * right + [Verdict(0.0, Kind.WRONG)] * (size - right)
    return RolloutGroup(Prompt(Problem(str(problem), "", ""), (1,)), [Completion([1], [0.0], "", False)] * size, verdicts)


def observe(module: RolloutDataModule, right: Mapping[int, int]) -> None:
    """Give the problems a group each with so many of four rollouts right."""
    module.observe([group(problem, count) for problem, count in right.items()])
