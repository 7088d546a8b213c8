"""Make the inputs of both sides once: the model's folder and the ordered prompts.

`python -m against.prepare WORK.json` reads the work's settings and writes `prepared.json` into its
folder.
"""

import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from against.model import random_model, stop_probability, tokenizer_for
from against.sizes import SIZES, Size
from asym_lightning.learner.embedded import EmbeddedSettings, cache_folder, embedded_policy
from asym_lightning.tasks.base import encode
from asym_lightning.tasks.countdown import PairsCountdown
from asym_lightning.types import Problem

POOL = 512  # prompts that an ordinary run draws from; each step takes its own


def procedural(count: int, seed: int = 0) -> list[str]:
    """Questions of one to six sentences, where no file of problems is given."""
    rng = random.Random(seed)
    things = ("apples", "tickets", "marbles", "pages", "coins", "bricks", "stamps", "seeds")
    names = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana")

    def sentence() -> str:
        name, thing, n, m = (
            rng.choice(names),
            rng.choice(things),
            rng.randint(2, 99),
            rng.randint(2, 12),
        )
        return rng.choice(
            (
                f"{name} has {n} {thing} and buys {m} more of them.",
                f"Each of the {m} boxes holds {n} {thing}, and {name} empties one.",
                f"{name} gives {m} {thing} away, which leaves {n} of them.",
                f"A third of the {3 * n} {thing} that {name} counted are kept in {m} bags of "
                "equal size.",
            )
        )

    asked = [
        " ".join(sentence() for _ in range(rng.randint(1, 6)))
        + f" How many {rng.choice(things)} are there?"
        for _ in range(count)
    ]
    return list(dict.fromkeys(asked))


def texts_of(data: str | None) -> list[str]:
    """Problems of a file, or made ones."""
    if data is None:
        return procedural(4 * POOL)
    from asym_lightning.tasks.rows import read_rows

    return [str(row["problem"]) for row in read_rows(data, "train", None, "--data")]


def problems_for(size: Size, texts: list[str], tokenizer: Any) -> list[Problem]:
    """The first prompts of the right length, with the instruction that real runs give."""
    from asym_lightning.tasks.prompts import INSTRUCTION

    shortest, longest = size.prompt_tokens
    made = (Problem(str(i), f"{text}\n{INSTRUCTION}\n", str(i)) for i, text in enumerate(texts))
    fit = [
        problem for problem in made if shortest <= len(tokenizer.encode(problem.text)) <= longest
    ]
    random.Random(0).shuffle(fit)
    return fit[:POOL]


def model_folder(size: Size, texts: list[str]) -> Path:
    """The folder of the random model and its tokenizer in the user's cache, created if missing."""
    assert size.shape is not None
    stop = stop_probability(size.mean_tokens, size.max_tokens)
    key = json.dumps(
        [asdict(size.shape), stop, hashlib.sha256("\n".join(texts).encode()).hexdigest()]
    )
    folder = cache_folder() / f"against-trl-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent))
        tokenizer = tokenizer_for(texts, size.shape.vocabulary)
        random_model(
            size.shape, tokenizer, stop, "cuda" if torch.cuda.is_available() else "cpu"
        ).save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)
    return folder


def prepared(work: dict[str, Any]) -> dict[str, str]:
    """Folder of the model, file of the problems, file of the prompts, and their description.

    The prompts are in the order of our run.
    """
    from transformers import AutoTokenizer

    from against.work import Work
    from asym_lightning.learner.datamodule import RolloutDataModule

    # Another cut would leave the model as it is.
    size = SIZES[work["size"]].scaled(work["prompts"], None)
    out = Path(work["folder"])
    problems: list[Problem]
    if size.shape is None:
        folder = embedded_policy(EmbeddedSettings())
        problems = list(PairsCountdown().train[: 16 * POOL])
    else:
        texts = texts_of(work["data"])
        folder = model_folder(size, texts)
        problems = problems_for(size, texts, AutoTokenizer.from_pretrained(folder))
    path = out / "problems.jsonl"
    path.write_text(
        "".join(
            json.dumps({"id": p.id, "text": p.text, "answer": p.answer}) + "\n" for p in problems
        )
    )
    task = Work(str(path), "all", False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    data = RolloutDataModule(
        encode(task, task.train, tokenizer),
        tokenizer,
        size.prompts,
        prompts_per_mini_batch=size.prompts,
        tokens_per_micro_batch=1,
        seed=work["seed"],
    )
    ordered = [data.prompts(i, 0, 1) for i in range(work["warmup"] + work["steps"])]
    rows = [
        {"prompt": p.problem.text, "answer": p.problem.answer} for step in ordered for _, p in step
    ]
    (out / "ordered.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lengths = [len(p.token_ids) for step in ordered for _, p in step]
    mean = sum(lengths) / len(lengths)
    return {
        "model": str(folder),
        "problems": str(path),
        "ordered": str(out / "ordered.jsonl"),
        "prompt_tokens": f"{min(lengths)} to {max(lengths)}, mean {mean:.0f}",
        "parameters": str(_parameters(folder)),
    }


def _parameters(folder: Path) -> int:
    from safetensors.torch import load_file

    return sum(weight.numel() for weight in load_file(folder / "model.safetensors").values())


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    (Path(given["folder"]) / "prepared.json").write_text(json.dumps(prepared(given)))
