"""Make the policy of chain countdown: `python -m asym_lightning.warmstart FOLDER`.

This command made ``asym_lightning/assets/chain``. The warm start takes some twenty minutes of one
core, so the package ships its policy, in half precision; a run loads it in fp32.
"""

import argparse
import hashlib
import math
import platform
import random
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from asym_lightning.learner.embedded import (
    EmbeddedSettings,
    WarmStart,
    build_model,
    fit,
    write_card,
)
from asym_lightning.metrics.evaluation import EvaluationMetric
from asym_lightning.rollout.base import Sampling
from asym_lightning.rollout.protocol import answer
from asym_lightning.rollout.transformers import TransformersEngine
from asym_lightning.tasks.base import PromptSet, encode
from asym_lightning.tasks.chain import ChainCountdown
from asym_lightning.types import ConfigError, Problem

SYMBOLS = ",>:+-*/="
# The first problems of each kind; the standard error is about a hundredth.
MEASURED = 500
SAMPLES = 8


@dataclass(frozen=True)
class ChainSettings(EmbeddedSettings):
    """Settings of the chain policy and its warm start.

    The first ``clean_share`` of the steps use correct answers only, at the full learning rate. In
    the others a share ``noise`` of the answers are random valid chains, and the rate falls to
    ``last_rate`` times the full one.
    """

    layers: int = 3
    steps: int = 3200
    learning_rate: float = 2e-3
    noise: float = 0.4
    clean_share: float = 0.75
    warmup_steps: int = 50
    last_rate: float = 0.03

    @property
    def clean_steps(self) -> int:
        return round(self.clean_share * self.steps)


def number_tokenizer() -> Any:
    """Return a tokenizer with a token for each number from 0 to 99 and for each sign.

    Token 108 (``?``) stands for any other text, 109 ends and 110 pads. Encoding drops spaces;
    decoding writes one between two numbers, so that a decoded text encodes to the same tokens.
    """
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = [*map(str, range(100)), *SYMBOLS, "?"]
    tokenizer = Tokenizer(WordLevel(vocab={word: i for i, word in enumerate(words)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s+"), "removed"),
            pre_tokenizers.Split(Regex("[0-9]+|."), "isolated"),
        ]
    )
    # A space before every token except the first.
    spaced = decoders.WordPiece(prefix="##", cleanup=False)
    joined = decoders.Replace(Regex("(?<=[^0-9]) | (?=[^0-9])"), "")
    tokenizer.decoder = decoders.Sequence([spaced, decoders.Fuse(), joined])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>"
    )


class ChainWarmStart(WarmStart):
    """A warm start with correct chains first, and random valid chains among them at the end.

    ``digest`` is the hash of all demonstrations so far.
    """

    settings: ChainSettings

    def demonstrations(self) -> Iterator[tuple[str, str]]:
        self.digest = hashlib.sha256()
        task, rng = ChainCountdown(), random.Random(self.settings.seed)
        clean = self.settings.clean_steps * self.settings.batch_size
        for stream in (
            islice(task.demonstrations(rng, 0.0), clean),
            task.demonstrations(rng, self.settings.noise),
        ):
            for prompt, completion in stream:
                self.digest.update(f"{prompt}{completion}\n".encode())
                yield prompt, completion

    def schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        s = self.settings

        def rate(step: int) -> float:
            if step < s.clean_steps:
                return min(1.0, (step + 1) / s.warmup_steps)
            done = (step - s.clean_steps) / (s.steps - s.clean_steps)
            return s.last_rate + (1 - s.last_rate) * (1 + math.cos(math.pi * done)) / 2

        return torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def measure(
    folder: Path, tokenizer: Any, task: ChainCountdown, problems: Sequence[Problem]
) -> dict[str, float]:
    """Measure pass@k of the policy in ``folder`` on these problems, at temperature 1."""
    engine = TransformersEngine(str(folder), "float32", 1024)
    metric = EvaluationMetric(SAMPLES)
    groups = answer(
        engine,
        tokenizer,
        PromptSet("chain", task, encode(task, problems, tokenizer)),
        numbers=range(len(problems)),
        verifier=task.verifier(),
        sampling=Sampling(
            n=SAMPLES, max_tokens=16, temperature=1.0, stop_ids=(tokenizer.eos_token_id,)
        ),
        seed=0,
    )
    for group in groups:
        metric.update(group)
    return {
        name: round(value, 4)
        for name, value in metric.compute().items()
        if name.startswith(("pass@", "distinct"))
    }


def make(settings: ChainSettings, folder: Path, command: str) -> dict[str, Any]:
    """Warm-start the policy, write it to ``folder`` in half precision, and measure it.

    Returns:
        The card, which is in ``folder`` too.

    Raises:
        ConfigError: the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; name a new folder")
    started = time.monotonic()
    tokenizer = number_tokenizer()
    module = ChainWarmStart(settings, build_model(settings, tokenizer), tokenizer)
    loss = fit(module)
    card = {
        "command": command,
        "settings": {**asdict(settings), "digest": settings.digest},
        "parameters": sum(p.numel() for p in module.model.parameters()),
        "data": {
            "task": "chain countdown, demonstrations of training problems; "
            "held out: a tenth of all problems, by hash",
            "demonstrations": settings.steps * settings.batch_size,
            "sha256": module.digest.hexdigest(),
        },
        "loss": loss,
        "seconds": round(time.monotonic() - started),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread, "
        f"torch {torch.__version__}",
    }
    module.model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    task = ChainCountdown(train_size=MEASURED, heldout_size=MEASURED)
    card["measured"] = {
        "problems": MEASURED,
        "samples": SAMPLES,
        "temperature": 1.0,
        "heldout": measure(folder, tokenizer, task, problems=task.heldout),
        "train": measure(folder, tokenizer, task, problems=task.train),
    }
    write_card(card, folder)
    return card


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m asym_lightning.warmstart", description=__doc__)
    parser.add_argument(
        "folder",
        type=Path,
        help="where the policy goes: config.json, tokenizer, model.safetensors, card.json",
    )
    parser.add_argument(
        "--steps", type=int, default=ChainSettings.steps, help="updates of 128 demonstrations"
    )
    parser.add_argument(
        "--seed", type=int, default=ChainSettings.seed, help="of the weights and the demonstrations"
    )
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    command = f"python -m asym_lightning.warmstart {shlex.join(sys.argv[1:])}"
    try:
        settings = replace(ChainSettings(), steps=arguments.steps, seed=arguments.seed)
        card = make(settings, arguments.folder, command)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for kind in ("heldout", "train"):
        values = card["measured"][kind].items()
        print(f"{kind}: " + "  ".join(f"{name} {value:.3f}" for name, value in values))
    print(f"{card['seconds']} s, written to {arguments.folder}")
