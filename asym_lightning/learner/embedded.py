"""The embedded policy: a small Qwen3 with tied embeddings and a byte-level tokenizer, warm-started on first use."""

import hashlib
import json
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

from asym_lightning.runtime.progress import Bar
from asym_lightning.tasks.countdown import PairsCountdown

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@dataclass(frozen=True)
class EmbeddedSettings:
    """Everything the embedded policy depends on; its hash names the cache folder."""

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
    """A tokenizer with one token per byte, so that any text passes through it; id 256 pads, id 257 ends."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(settings: EmbeddedSettings, tokenizer: Any) -> Any:
    """The randomly initialised model."""
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
    """Supervised warm start on demonstrations, some of them replaced by a random valid equation, so that there is
    something left to learn and entropy to lose."""

    def __init__(self, settings: EmbeddedSettings, model: Any, tokenizer: Any):
        super().__init__()
        self.settings, self.model, self.tokenizer = settings, model, tokenizer

    def demonstrations(self) -> Iterator[tuple[str, str]]:
        """Endless ``(prompt, completion)`` texts."""
        return PairsCountdown().demonstrations(random.Random(self.settings.seed), self.settings.noise)

    def schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        """The learning rate from step to step."""
        s = self.settings
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, s.learning_rate, total_steps=s.steps + 1, pct_start=min(0.5, 50 / s.steps), div_factor=50, final_div_factor=0.6
        )

    def train_dataloader(self) -> DataLoader:
        demonstrations = self.demonstrations()

        def batches() -> Any:
            for _ in range(self.settings.steps):
                prompts, completions = zip(*islice(demonstrations, self.settings.batch_size), strict=True)
                yield self.tokenizer(list(prompts)).input_ids, self.tokenizer(list(completions)).input_ids

        return DataLoader(_Stream(batches), batch_size=None)

    def training_step(self, batch: tuple[list[list[int]], list[list[int]]], batch_idx: int) -> Tensor:
        end = [self.tokenizer.eos_token_id]
        rows = [(p, c + end) for p, c in zip(*batch, strict=True)]
        width = max(len(p) + len(c) for p, c in rows)
        ids = torch.tensor([p + c + end * (width - len(p) - len(c)) for p, c in rows], device=self.device)
        labels = torch.tensor([[-100] * len(p) + c + [-100] * (width - len(p) - len(c)) for p, c in rows], device=self.device)
        loss = self.model(input_ids=ids, labels=labels).loss
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        s = self.settings
        optimizer = torch.optim.AdamW(self.parameters(), lr=s.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule(optimizer), "interval": "step"}}


class _Stream(torch.utils.data.IterableDataset):
    def __init__(self, make: Any):
        self.make = make

    def __iter__(self) -> Any:
        return self.make()


class _Progress(Callback):
    """A bar over the steps, with the loss."""

    bar: Bar | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar = Bar("warm start", pl_module.settings.steps, 200)  # type: ignore[arg-type, union-attr]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.bar is not None and (batch_idx + 1) % 20 == 0:
            self.bar.update(batch_idx + 1, f"loss {trainer.callback_metrics['loss']:.3f}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()  # an interrupt may come before the first step

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def fit(module: WarmStart) -> float:
    """Run a warm start on the CPU, in one process; the loss of its last step."""
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
    """Write ``card`` beside the weights in ``folder``, whose hash is added."""
    (folder / "card.json").write_text(json.dumps({**card, "sha256": _checksum(folder)}, indent=1) + "\n")


def _checksum(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def is_whole(folder: Path) -> bool:
    """Whether ``folder`` holds a finished embedded policy whose weights are the ones that were written."""
    try:
        return json.loads((folder / "card.json").read_text())["sha256"] == _checksum(folder)
    except (OSError, ValueError, KeyError):
        return False


def cache_folder() -> Path:
    """Where embedded policies are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "asym-lightning"


def embedded_policy(settings: EmbeddedSettings, cache: Path | None = None) -> Path:
    """Folder of the embedded policy, made by a warm start where the cache has none or a broken one.

    The folder appears whole or not at all; several processes that ask at once make it once.
    """
    root = cache or cache_folder()
    folder = root / f"embedded-{settings.digest}"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{folder.name}.lock"):
        if is_whole(folder):
            return folder
        print("the embedded policy is made once by a supervised warm start and kept in the cache", flush=True)
        with torch.random.fork_rng(devices=[]):
            tokenizer = byte_tokenizer()
            module = WarmStart(settings, build_model(settings, tokenizer), tokenizer)
            loss = fit(module)
        scratch = Path(tempfile.mkdtemp(dir=root))
        module.model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        write_card({"settings": asdict(settings), "loss": loss}, scratch)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)
        os.chmod(folder, 0o755)
    return folder
