"""The embedded policy: a small Qwen3 with tied embeddings and a byte-level tokenizer.

A supervised warm start makes it on first use.
"""

import hashlib
import json
import logging
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from asym_lightning.runtime.log import ALL_RANKS
from asym_lightning.runtime.progress import Bar
from asym_lightning.runtime.resolvers import cache_folder
from asym_lightning.tasks.countdown import PairsCountdown

log = logging.getLogger(__name__)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@dataclass(frozen=True)
class EmbeddedSettings:
    """All settings that the embedded policy depends on; their hash names the cache folder."""

    hidden_size: int = 128
    layers: int = 2
    intermediate_size: int = 512
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    context: int = 16384
    steps: int = 1200
    batch_size: int = 128
    learning_rate: float = 3e-3
    noise: float = 0.6
    seed: int = 0
    version: int = 1

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def byte_tokenizer() -> Any:
    """Return a tokenizer with one token per byte, so that it encodes any text.

    Id 257 pads, id 256 ends a completion.
    """
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>"
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(settings: EmbeddedSettings, tokenizer: Any) -> Any:
    """Return the randomly initialised model."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(settings.seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=settings.hidden_size,
            num_hidden_layers=settings.layers,
            intermediate_size=settings.intermediate_size,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.kv_heads,
            head_dim=settings.head_dim,
            max_position_embeddings=settings.context,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )


class WarmStart(LightningModule):
    """A supervised warm start on demonstrations.

    Some of them are replaced by a random valid equation, so that there is something left to learn
    and entropy to lose.
    """

    def __init__(self, settings: EmbeddedSettings, model: Any, tokenizer: Any):
        super().__init__()
        self.settings, self.model, self.tokenizer = settings, model, tokenizer

    def demonstrations(self) -> Iterator[tuple[str, str]]:
        """Yield ``(prompt, completion)`` texts without end, to be learned by supervision.

        A share ``noise`` of the completions is a random valid equation.
        """
        return PairsCountdown().demonstrations(
            random.Random(self.settings.seed), self.settings.noise
        )

    def schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        """Return the schedule of the learning rate, which changes with every step."""
        s = self.settings
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            s.learning_rate,
            total_steps=s.steps + 1,
            pct_start=min(0.5, 50 / s.steps),
            div_factor=50,
            final_div_factor=0.6,
        )

    def train_dataloader(self) -> DataLoader:
        demonstrations = self.demonstrations()

        def batches() -> Any:
            for _ in range(self.settings.steps):
                pairs = islice(demonstrations, self.settings.batch_size)
                prompts, completions = zip(*pairs, strict=True)
                yield (
                    self.tokenizer(list(prompts)).input_ids,
                    self.tokenizer(list(completions)).input_ids,
                )

        return DataLoader(_Stream(batches), batch_size=None)

    def training_step(
        self, batch: tuple[list[list[int]], list[list[int]]], batch_idx: int
    ) -> Tensor:
        end = [self.tokenizer.eos_token_id]
        rows = [(p, c + end) for p, c in zip(*batch, strict=True)]
        width = max(len(p) + len(c) for p, c in rows)
        ids, labels = [], []
        for p, c in rows:
            padding = width - len(p) - len(c)
            ids.append(p + c + end * padding)
            # -100: no loss.
            labels.append([-100] * len(p) + c + [-100] * padding)
        loss = self.model(
            input_ids=torch.tensor(ids, device=self.device),
            labels=torch.tensor(labels, device=self.device),
        ).loss
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        s = self.settings
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=s.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.schedule(optimizer), "interval": "step"},
        }


class _Stream(torch.utils.data.IterableDataset):
    """The batches that a generator function yields."""

    def __init__(self, make: Any):
        self.make = make

    def __iter__(self) -> Any:
        return self.make()


class _Progress(Callback):
    """A progress bar over the steps, with the loss."""

    bar: Bar | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, WarmStart)
        self.bar = Bar("warm start", pl_module.settings.steps, 200)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is not None and (batch_idx + 1) % 20 == 0:
            self.bar.update(batch_idx + 1, f"loss {trainer.callback_metrics['loss']:.3f}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        # An interrupt may come before the first step, when there is no bar yet.
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def fit(module: WarmStart) -> float:
    """Run a warm start on the CPU, in one process; return the loss of its last step."""
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        gradient_clip_val=1.0,
        callbacks=[_Progress()],
    )
    trainer.fit(module)
    return float(trainer.callback_metrics["loss"])


def write_card(card: dict[str, Any], folder: Path) -> None:
    """Write ``card`` beside the weights in ``folder``, with their hash added."""
    text = json.dumps({**card, "sha256": _checksum(folder)}, indent=1)
    (folder / "card.json").write_text(text + "\n")


def _checksum(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def is_complete(folder: Path) -> bool:
    """Whether ``folder`` holds a finished embedded policy with the weights that its card names."""
    try:
        return json.loads((folder / "card.json").read_text())["sha256"] == _checksum(folder)
    except (OSError, ValueError, KeyError):
        return False


def embedded_policy(settings: EmbeddedSettings, cache: Path | None = None) -> Path:
    """Return the folder of the embedded policy; run a warm start if the cache does not have it.

    A broken folder is made again. The folder appears complete or not at all; the first of several
    processes that ask at the same time makes it, and the others wait.
    """
    root = cache or cache_folder()
    folder = root / f"embedded-{settings.digest}"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{folder.name}.lock"):
        if is_complete(folder):
            return folder
        log.info(
            "the embedded policy is made once by a supervised warm start and kept in the cache",
            extra=ALL_RANKS,
        )
        with torch.random.fork_rng(devices=[]):
            tokenizer = byte_tokenizer()
            module = WarmStart(settings, build_model(settings, tokenizer), tokenizer)
            loss = fit(module)
        temporary = Path(tempfile.mkdtemp(dir=root))
        module.model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_card({"settings": asdict(settings), "loss": loss}, temporary)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
        os.chmod(folder, 0o755)
    return folder
