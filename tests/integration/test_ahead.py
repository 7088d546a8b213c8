"""Rollouts that are sampled while earlier iterations learn."""

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from transformers import AutoModelForCausalLM

from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.learner.embedded import byte_tokenizer
from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.rollout.base import Sampling, sampling_seed
from asym_lightning.rollout.prefetch import Prefetcher
from asym_lightning.rollout.transformers import TransformersEngine
from asym_lightning.tasks.base import encode
from asym_lightning.types import Completion, EngineMismatchError
from callbacks.vllm_rollout import VLLMRollout
from tests.support.coin import Parity
from tests.support.parts import algorithm
from tests.support.runs import random_policy

SEED, PROMPTS = 3, 4
SAMPLING = Sampling(4, 6, 1.0, (257,))


class Remembering(TransformersEngine):
    """Keeps the published weights, and loads them when it is told to."""

    idle_publish = False

    def __init__(self, path: Path):
        super().__init__(str(path), "float32", 64)
        self.published: dict[int, list[tuple[str, Tensor]]] = {}

    def publish(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        self.published[version] = [(name, tensor.clone()) for name, tensor in weights]

    def load(self, version: int) -> None:
        self.sync(self.published[version], version)

    def close(self) -> None:
        """Stay open, so that the test can sample again."""

    @torch.inference_mode()
    def prompt_logprobs(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        prompt_logps = []
        for prompt in prompts:
            ids = torch.tensor([list(prompt)])
            logp = self.model(ids).logits[0, :-1].log_softmax(-1)
            prompt_logps.append(logp.gather(1, ids[0, 1:, None])[:, 0].tolist())
        return prompt_logps


class FirstOnly(Remembering):
    """Keeps the first weights, and says that it took the new ones."""

    def load(self, version: int) -> None:
        super().load(0)
        self.version = version


class OldVersion(Remembering):
    """Loads the new weights, and says that it has the first ones."""

    def load(self, version: int) -> None:
        super().load(version)
        self.version = 0


class AtOnce(Remembering):
    """Loads weights while they are published, and fails if it samples at that time."""

    idle_publish = True
    busy = 0

    def publish(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        assert not self.busy, "it still samples"
        super().publish(weights, version)
        self.sync(self.published[version], version)

    def load(self, version: int) -> None:
        assert version == self.version

    def generate(self, *given: Any) -> Any:
        self.busy += 1
        time.sleep(0.2)  # longer than it takes to learn
        drawn = super().generate(*given)
        self.busy -= 1
        return drawn


class Broken(Remembering):
    def generate(self, *_: Any) -> Any:
        raise ConnectionError("the engine is gone")


class Slow(Remembering):
    """Samples the first iteration at once; later ones take until the engine is closed."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.closed, self.asked = Event(), 0

    def generate(self, *given: Any) -> Any:
        self.asked += 1
        if self.asked > 1:
            self.closed.wait(60)
        return super().generate(*given)

    def close(self) -> None:
        self.closed.set()


class Failing(Callback):
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise MemoryError("no room to learn in")


class Kept(Callback):
    """Keeps the rollouts and the metrics of every iteration."""

    def __init__(self) -> None:
        self.completions: list[list[Completion]] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        rollout = next(c for c in callbacks if isinstance(c, VLLMRollout))
        self.completions.append([c for group in rollout.groups for c in group.completions])
        self.metrics.append(pl_module.meter.compute(lambda x, _: x, pl_module.device))


def trained(
    folder: Path,
    engine: TransformersEngine,
    staleness: int,
    *more: Callback,
    iterations: int = 4,
) -> Kept:
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    optimizer = OptimizerSettings(3e-3, (0.9, 0.95), 0.0, warmup_steps=0, max_grad_norm=1.0)
    policy = PolicyModule(
        model, algorithm(), optimizer, temperature=1.0, logprob_gap_limit=math.inf
    )
    rollout = VLLMRollout(lambda _: engine, SAMPLING, Parity, seed=SEED, staleness=staleness)
    kept = Kept()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=iterations,
        callbacks=[rollout, kept, *more],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(policy, data_module())
    return kept


def data_module() -> RolloutDataModule:
    return RolloutDataModule(
        encode(Parity(), Parity().train, byte_tokenizer()),
        byte_tokenizer(),
        PROMPTS,
        prompts_per_mini_batch=PROMPTS,
        tokens_per_micro_batch=512,
        seed=SEED,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random_policy(tmp_path / "model")
    return tmp_path


def test_work_is_given_as_many_iterations_ahead_as_the_learner_may_be_behind() -> None:
    first = Prefetcher[int](2)
    assert [list(first.due(i, last=5)) for i in range(6)] == [[0, 1, 2], [3], [4], [5], [], []]
    resumed = Prefetcher[int](2)
    assert [list(resumed.due(i, last=9)) for i in (7, 8, 9)] == [[7, 8, 9], [], []]
    first.close()
    resumed.close()


def test_an_iteration_learns_from_the_rollouts_of_the_weights_before(folder: Path) -> None:
    engine = Remembering(folder / "model")
    kept = trained(folder, engine, staleness=1)
    assert [{c.version for c in part} for part in kept.completions] == [{0}, {0}, {1}, {2}]
    assert [row["rollout/staleness"] for row in kept.metrics] == [0, 1, 1, 1]
    assert all(row["engine/probe_gap_max"] < 1e-4 for row in kept.metrics)
    assert kept.metrics[3]["engine/logprob_gap_max"] > 1e-3, "the weights moved in between"
    data = data_module()
    for iteration, version in enumerate((0, 0, 1, 2)):
        engine.sync(engine.published[version], version)
        numbered = data.prompts(iteration, 0, 1)
        seeds = [sampling_seed(SEED, "train", number) for number, _ in numbered]
        again = engine.generate([prompt.token_ids for _, prompt in numbered], SAMPLING, seeds)
        token_ids = [sample.token_ids for row in again for sample in row]
        assert token_ids == [c.token_ids for c in kept.completions[iteration]]


def test_an_engine_that_takes_weights_at_once_samples_the_same(folder: Path) -> None:
    later = trained(folder, Remembering(folder / "model"), staleness=1)
    at_once = trained(folder, AtOnce(folder / "model"), staleness=1)
    assert at_once.completions == later.completions
    assert at_once.metrics[2]["time/wait"] > at_once.metrics[2]["time/sync"]


def test_without_staleness_each_iteration_samples_from_its_own_weights(folder: Path) -> None:
    kept = trained(folder, Remembering(folder / "model"), staleness=0)
    assert [{c.version for c in part} for part in kept.completions] == [{0}, {1}, {2}, {3}]
    assert "rollout/staleness" not in kept.metrics[0]
    assert all(row["engine/logprob_gap_max"] < 1e-4 for row in kept.metrics)


@pytest.mark.parametrize(
    ("engine", "error", "message"),
    [
        (FirstOnly, EngineMismatchError, "under the weights of iteration 1: mean"),
        (OldVersion, EngineMismatchError, "from the weights of iteration 0, not of 1"),
        (Broken, ConnectionError, "the engine is gone"),
    ],
)
def test_what_goes_wrong_in_the_background_ends_the_run(
    folder: Path, engine: type[Remembering], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        trained(folder, engine(folder / "model"), staleness=1)


def test_a_run_that_fails_does_not_go_on_making_rollouts(folder: Path) -> None:
    engine = Slow(folder / "model")
    with pytest.raises(MemoryError):
        trained(folder, engine, 3, Failing(), iterations=9)
        assert engine.closed.is_set()
        assert engine.asked == 2, "iteration 1 was sampling, 2 and 3 had not begun"
