"""A few prompts with all their rollouts, for reading.

They go to TensorBoard, to an HTML file and, if asked for, to the terminal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from rich.table import Table
from rich.text import Text

from asym_lightning.checks import Count, WholeNumber, validated
from asym_lightning.learner.batch import StepRecord
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.runtime.characters import clean_text
from asym_lightning.types import Completion, Kind, RolloutGroup, Verdict

COLUMNS = ("prompt", "completion", "tokens", "reward", "advantage", "kind")
# Rewarded answers of another text than the reference that a page lists, and characters of each.
EXAMPLES, EXAMPLE_CHARS = 10, 200
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif }
body { margin: 1.5rem auto; max-width: 70rem; padding: 0 1rem }
h2 { font-size: 1rem; white-space: pre-wrap } table { border-collapse: collapse; width: 100% }
td, th { border-top: 1px solid #ccc; padding: .3rem .5rem; text-align: left; vertical-align: top }
td:last-child { font-family: ui-monospace, monospace; width: 60% }
td:last-child { white-space: pre-wrap; overflow-wrap: anywhere }
#entropy:checked ~ main i { background: rgba(240, 140, 0, var(--e)) }
#advantage:checked ~ main i { background: rgba(0, 140, 70, var(--p)) }
#advantage:checked ~ main i { box-shadow: inset 0 0 0 99px rgba(210, 40, 40, var(--n)) }
i { font-style: normal }
code { unicode-bidi: isolate; white-space: pre-wrap; overflow-wrap: anywhere }
"""


@dataclass(frozen=True)
class ShownRollout:
    """A rollout with the values of its tokens in the optimizer step.

    The lists are empty if the rollout was left out of the loss.
    """

    completion: Completion
    verdict: Verdict
    logp: list[float]
    entropy: list[float]
    advantages: list[float]

    @property
    def advantage(self) -> float | None:
        """Mean of its tokens' advantages after all modulations; None without tokens."""
        return sum(self.advantages) / len(self.advantages) if self.advantages else None

    def cells(self) -> list[str]:
        """Tokens, reward, advantage and kind as text."""
        advantage = "-" if self.advantage is None else f"{self.advantage:+.2f}"
        return [
            str(len(self.completion.token_ids)),
            f"{self.verdict.reward:g}",
            advantage,
            str(self.verdict.kind),
        ]


def shown(record: StepRecord, prompts: int) -> list[tuple[RolloutGroup, list[ShownRollout]]]:
    """The first ``prompts`` groups of a mini-batch, as its optimizer step saw them."""
    rows = record.rows.cpu()
    logp, entropy, advantages = (
        values.float().cpu() for values in (record.logp, record.entropy, record.advantages)
    )
    result = []
    for g, group in enumerate(record.batch.groups[:prompts]):
        members = []
        pairs = zip(group.completions, group.verdicts, strict=True)
        for i, (completion, verdict) in enumerate(pairs):
            tokens = rows == g * len(group.completions) + i
            members.append(
                ShownRollout(
                    completion,
                    verdict,
                    logp=logp[tokens].tolist(),
                    entropy=entropy[tokens].tolist(),
                    advantages=advantages[tokens].tolist(),
                )
            )
        result.append((group, members))
    return result


def markdown(groups: list[tuple[RolloutGroup, list[ShownRollout]]]) -> str:
    """A table for TensorBoard, with cell breaks and line ends of the texts made visible."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for group, members in groups:
        for rollout in members:
            prompt = _markdown_cell(group.prompt.problem.text)
            completion = f"`{_markdown_cell(rollout.completion.text)}`"
            lines.append("| " + " | ".join([prompt, completion, *rollout.cells()]) + " |")
    return clean_text("\n".join(lines))


def _markdown_cell(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")
    return text.replace("\n", " ⏎ ")[:400]


def terminal_table(groups: list[tuple[RolloutGroup, list[ShownRollout]]], title: str) -> Table:
    """The same rollouts as :func:`markdown`, as a table for the terminal."""
    table = Table(title=title)
    for name in COLUMNS:
        is_number = name in ("tokens", "reward", "advantage")
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for group, members in groups:
        for i, rollout in enumerate(members):
            texts = [group.prompt.problem.text if i == 0 else "", rollout.completion.text]
            shown_texts = [Text(clean_text(text)) for text in texts]
            table.add_row(*shown_texts, *rollout.cells(), end_section=i + 1 == len(members))
    return table


def rewarded_texts(groups: Sequence[RolloutGroup]) -> list[tuple[str, str]]:
    """Different pairs of answer and reference that are right and not the same text, in order."""
    pairs = {
        (verdict.text, verdict.reference): None
        for group in groups
        for verdict in group.verdicts
        if verdict.kind is Kind.CORRECT and verdict.is_other_text
    }
    return [(str(text), str(reference)) for text, reference in pairs]


def _code(text: str | None) -> str:
    """The beginning of a text as an element of its own; a dash for no text."""
    if text is None:
        return "-"
    short = text if len(text) <= EXAMPLE_CHARS else text[:EXAMPLE_CHARS] + "…"
    return f"<code>{escape(short)}</code>"


def _examples(pairs: Sequence[tuple[str, str]]) -> str:
    """A list of pairs that :func:`rewarded_texts` found; empty without any."""
    if not pairs:
        return ""
    items = "".join(
        f"<li>{_code(text)} for {_code(reference)}</li>" for text, reference in pairs[:EXAMPLES]
    )
    count = f"{min(len(pairs), EXAMPLES)} of {len(pairs)}"
    return f"<h2>Rewarded answers of another text than the reference: {count}</h2><ul>{items}</ul>"


def page(
    groups: list[tuple[RolloutGroup, list[ShownRollout]]],
    tokenizer: Any,
    title: str,
    rewarded: Sequence[tuple[str, str]],
) -> str:
    """A self-contained HTML page.

    Every token has its entropy or its advantage as background, and both with its log-prob as
    tooltip. ``rewarded`` are pairs of answer and reference from :func:`rewarded_texts`.
    """
    rollouts = [rollout for _, members in groups for rollout in members]
    entropies = [value for rollout in rollouts for value in rollout.entropy]
    advantages = [abs(value) for rollout in rollouts for value in rollout.advantages]
    top_entropy = max(entropies, default=0.0) or 1.0
    top_advantage = max(advantages, default=0.0) or 1.0

    def token(text: str, logp: float, entropy: float, advantage: float) -> str:
        part = abs(advantage) / top_advantage
        positive, negative = part if advantage > 0 else 0, part if advantage < 0 else 0
        style = f"--e:{entropy / top_entropy:.2f};--p:{positive:.2f};--n:{negative:.2f}"
        tip = f"entropy {entropy:.3f}, advantage {advantage:+.3f}, log-prob {logp:.3f}"
        return f'<i style="{style}" title="{tip}">{escape(text)}</i>'

    names = (*COLUMNS[2:], "parsed answer", "as written", "completion")
    headings = "".join(f"<th>{name}</th>" for name in names)
    parts = [_examples(rewarded)]
    for group, members in groups:
        parts.append(f"<h2>{escape(group.prompt.problem.text)}</h2>")
        parts.append(f"<p>reference: {_code(group.prompt.problem.answer)}</p>")
        parts.append(f"<table><tr>{headings}</tr>")
        for rollout in members:
            texts = [tokenizer.decode([i]) for i in rollout.completion.token_ids]
            tokens = map(token, texts, rollout.logp, rollout.entropy, rollout.advantages)
            coloured = "".join(tokens) or escape(rollout.completion.text)
            answers = [_code(text) for text in (rollout.verdict.answer, rollout.verdict.text)]
            fields = [*map(escape, rollout.cells()), *answers]
            cells = "".join(f"<td>{field}</td>" for field in fields)
            parts.append(f"<tr>{cells}<td>{coloured}</td></tr>")
        parts.append("</table>")
    choice = "".join(
        f'<input type="radio" name="by" id="{name}"{checked}><label for="{name}"> {name} </label>'
        for name, checked in (("entropy", " checked"), ("advantage", ""))
    )
    return clean_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{escape(title)}</h1>colour tokens by {choice}"
        f"<p>darkest: entropy {top_entropy:.2f} nats, advantage {top_advantage:.2f} "
        f"(green above 0, red below)</p><main>{''.join(parts)}</main></html>"
    )


@validated
class Completions(Callback):
    """Shows the first prompts of an iteration with their rollouts.

    The page begins with rewarded answers whose text is not the reference's, from all groups of the
    first mini-batch on the process that writes it.

    Args:
        folder: for the files ``iteration-*.html``.
        every: iterations from one that is shown to the next; 0: never.
        prompts: number of prompts, each with all G rollouts.
        terminal: print them on the terminal too.
    """

    def __init__(
        self, folder: str, every: WholeNumber = 10, prompts: Count = 2, terminal: bool = False
    ):
        self.folder, self.every = Path(folder), every
        self.prompts, self.terminal = prompts, terminal
        self._record: StepRecord | None = None

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if batch_idx == 0:
            self._record = outputs["record"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        iteration, record = trainer.current_epoch, self._record
        self._record = None
        if record is None or not trainer.is_global_zero or not self.every or iteration % self.every:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        groups = shown(record, self.prompts)
        rewarded = rewarded_texts(record.batch.groups)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("rollouts/completions", markdown(groups), iteration)
        self.folder.mkdir(parents=True, exist_ok=True)
        title = f"Rollouts of iteration {iteration}"
        file = self.folder / f"iteration-{iteration:06d}.html"
        file.write_text(page(groups, data.tokenizer, title, rewarded=rewarded), encoding="utf-8")
        if self.terminal:
            Console().print(terminal_table(groups, title))
