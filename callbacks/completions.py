"""A few prompts with all their rollouts, to be read: in TensorBoard, as an HTML file, on the terminal if asked for."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from asym_lightning.checks import positive_int, whole_number
from asym_lightning.learner.batch import MiniBatch
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.types import Completion, RolloutGroup, Verdict

COLUMNS = ("prompt", "completion", "tokens", "reward", "advantage", "kind")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 70rem; padding: 0 1rem }
h2 { font-size: 1rem; white-space: pre-wrap } table { border-collapse: collapse; width: 100% }
td, th { border-top: 1px solid #ccc; padding: .3rem .5rem; text-align: left; vertical-align: top }
td:last-child { font-family: ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; width: 60% }
#entropy:checked ~ main i { background: rgba(240, 140, 0, var(--e)) }
#advantage:checked ~ main i { background: rgba(0, 140, 70, var(--p)); box-shadow: inset 0 0 0 99px rgba(210, 40, 40, var(--n)) }
i { font-style: normal }
"""


@dataclass(frozen=True)
class Shown:
    """A rollout with what the optimizer step saw of its tokens; no tokens where it was left out of the loss."""

    completion: Completion
    verdict: Verdict
    logp: list[float]
    entropy: list[float]
    advantages: list[float]

    @property
    def advantage(self) -> float | None:
        """Mean over its tokens, as the modulations left them."""
        return sum(self.advantages) / len(self.advantages) if self.advantages else None

    def cells(self) -> list[str]:
        """Tokens, reward, advantage and kind as text."""
        advantage = "-" if self.advantage is None else f"{self.advantage:+.2f}"
        return [str(len(self.completion.token_ids)), f"{self.verdict.reward:g}", advantage, str(self.verdict.kind)]


def shown(batch: MiniBatch, prompts: int) -> list[tuple[RolloutGroup, list[Shown]]]:
    """The first ``prompts`` groups of a mini-batch that a step was taken on."""
    rows = batch.tokens("rows").cpu()
    fields: list[Tensor] = [batch.tokens(name).float().cpu() for name in ("logp", "entropy", "advantages")]
    result = []
    for g, group in enumerate(batch.groups[:prompts]):
        members = []
        for i, (completion, verdict) in enumerate(zip(group.completions, group.verdicts, strict=True)):
            at = rows == g * len(group.completions) + i
            members.append(Shown(completion, verdict, *(field[at].tolist() for field in fields)))
        result.append((group, members))
    return result


def markdown(groups: list[tuple[RolloutGroup, list[Shown]]]) -> str:
    """A table for TensorBoard; cell breaks and line ends in the text are made visible."""

    def cell(text: str) -> str:
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("`", "'").replace("\n", " ⏎ ")[:400]

    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for group, members in groups:
        for one in members:
            cells = [cell(group.prompt.problem.text), f"`{cell(one.completion.text)}`", *one.cells()]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def terminal(groups: list[tuple[RolloutGroup, list[Shown]]], title: str) -> Table:
    """The same for the terminal."""
    table = Table(title=title)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in ("tokens", "reward", "advantage") else "left", overflow="fold")
    for group, members in groups:
        for i, one in enumerate(members):
            texts = [group.prompt.problem.text if i == 0 else "", one.completion.text]
            table.add_row(*map(Text, texts), *one.cells(), end_section=i + 1 == len(members))
    return table


def page(groups: list[tuple[RolloutGroup, list[Shown]]], tokenizer: Any, title: str) -> str:
    """A self-contained HTML page; every token has its entropy or its advantage as background and both, with its log-prob, as tooltip."""
    top_entropy = max((x for _, members in groups for one in members for x in one.entropy), default=0.0) or 1.0
    top_advantage = max((abs(x) for _, members in groups for one in members for x in one.advantages), default=0.0) or 1.0

    def token(text: str, logp: float, entropy: float, advantage: float) -> str:
        part = abs(advantage) / top_advantage
        style = f"--e:{entropy / top_entropy:.2f};--p:{part if advantage > 0 else 0:.2f};--n:{part if advantage < 0 else 0:.2f}"
        tip = f"entropy {entropy:.3f}, advantage {advantage:+.3f}, log-prob {logp:.3f}"
        return f'<i style="{style}" title="{tip}">{escape(text)}</i>'

    parts = []
    for group, members in groups:
        parts.append(f"<h2>{escape(group.prompt.problem.text)}</h2><table>")
        parts.append("<tr>" + "".join(f"<th>{name}</th>" for name in (*COLUMNS[2:], "completion")) + "</tr>")
        for one in members:
            texts = [tokenizer.decode([i]) for i in one.completion.token_ids]
            coloured = "".join(map(token, texts, one.logp, one.entropy, one.advantages)) or escape(one.completion.text)
            parts.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in one.cells()) + f"<td>{coloured}</td></tr>")
        parts.append("</table>")
    choice = "".join(
        f'<input type="radio" name="by" id="{name}"{checked}><label for="{name}"> {name} </label>'
        for name, checked in (("entropy", " checked"), ("advantage", ""))
    )
    scale = f"darkest: entropy {top_entropy:.2f} nats, advantage {top_advantage:.2f} (green above 0, red below)"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f"{head}<h1>{escape(title)}</h1>colour tokens by {choice}<p>{scale}</p><main>{''.join(parts)}</main></html>"


class Completions(Callback):
    """Shows the first prompts of an iteration.

    Args:
        folder: where ``iteration-*.html`` goes.
        every: iterations between two showings.
        prompts: how many, each with all G rollouts.
        terminal: print them too.
    """

    def __init__(self, folder: str, every: int = 10, prompts: int = 2, terminal: bool = False):
        whole_number("callbacks.completions.every", every, 0)
        positive_int("callbacks.completions.prompts", prompts)
        self.folder, self.every, self.prompts, self.terminal = Path(folder), every, prompts, terminal

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        iteration = trainer.current_epoch
        if not trainer.is_global_zero or not self.every or iteration % self.every:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        groups = shown(data.mini_batches[0], self.prompts)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("rollouts/completions", markdown(groups), iteration)
        self.folder.mkdir(parents=True, exist_ok=True)
        title = f"Rollouts of iteration {iteration}"
        (self.folder / f"iteration-{iteration:06d}.html").write_text(page(groups, data.tokenizer, title), encoding="utf-8")
        if self.terminal:
            Console().print(terminal(groups, title))
