"""Rollouts on display: every token with its numbers, and no text that breaks out of its cell."""

from html.parser import HTMLParser
from io import StringIO

import pytest
import torch
from rich.console import Console

from asym_lightning.learner.batch import MiniBatch
from asym_lightning.learner.embedded import byte_tokenizer
from asym_lightning.learner.packing import micro_batches
from asym_lightning.types import Completion, Kind, Problem, Prompt, RolloutGroup, Verdict
from callbacks.completions import ShownRollout, markdown, page, shown, terminal_table
from tests.support.records import record

HOSTILE = "</td><script>alert(1)</script>|`[red]&\\[/x]\n"


@pytest.fixture
def groups() -> list[tuple[RolloutGroup, list[ShownRollout]]]:
    """One prompt with three rollouts: correct; wrong and hostile; truncated, out of the loss."""
    tokenizer = byte_tokenizer()
    completions = [
        Completion(tokenizer.encode(text), [-1.0] * len(text), text, truncated=text == "cut")
        for text in ("1+1", HOSTILE, "cut")
    ]
    verdicts = [Verdict(1.0, Kind.CORRECT), Verdict(0.0, Kind.WRONG), Verdict(0.0, Kind.TRUNCATED)]
    prompt = Prompt(Problem("p", f"problem {HOSTILE}", ""), (1, 2))
    group = RolloutGroup(prompt, completions, verdicts)
    # The hostile rollout is longer than the budget: there are two micro-batches.
    batch = MiniBatch(
        torch.tensor([[1.0, 0, 0]]),
        torch.tensor([[True, False, False]]),
        torch.tensor([len(c.token_ids) for c in completions]),
        micro_batches=micro_batches([group], 20, [True, True, False]),
        groups=[group],
    )
    assert len(batch.micro_batches) == 2
    rows = torch.cat([micro.rows for micro in batch.micro_batches])
    logp = torch.cat([micro.engine_logp for micro in batch.micro_batches])
    entropy = torch.cat([torch.arange(len(micro.rows)) / 10 for micro in batch.micro_batches])
    advantages = torch.where(rows == 0, 2.0, -0.5)
    return shown(record(batch, rows, logp=logp, entropy=entropy, advantages=advantages), 5)


def test_numbers_land_on_their_rollout(
    groups: list[tuple[RolloutGroup, list[ShownRollout]]],
) -> None:
    [(_, (correct, wrong, cut))] = groups
    assert correct.cells() == ["3", "1", "+2.00", "correct"]
    assert correct.entropy == pytest.approx([0.0, 0.1, 0.2])
    assert wrong.cells()[1:] == ["0", "-0.50", "wrong"] and len(wrong.entropy) == len(HOSTILE)
    assert cut.cells() == ["3", "0", "-", "truncated"] and cut.advantage is None


def test_the_page_escapes_and_has_one_element_per_token(
    groups: list[tuple[RolloutGroup, list[ShownRollout]]],
) -> None:
    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: list[str] = []
            self.text = ""

        def handle_starttag(self, tag: str, attrs: list) -> None:
            self.tags.append(tag)
            names = {name for name, _ in attrs}
            assert not {"src", "href"} & names, "nothing may be loaded from elsewhere"

        def handle_data(self, data: str) -> None:
            self.text += data

    reader = Reader()
    reader.feed(page(groups, byte_tokenizer(), "title <b>"))
    assert reader.tags.count("i") == 3 + len(HOSTILE)
    assert "script" not in reader.tags
    assert "b" not in reader.tags
    assert f"problem {HOSTILE}" in reader.text
    assert "title <b>" in reader.text
    assert "cut" in reader.text
    assert "--e:1.00" in page(groups, byte_tokenizer(), "t"), "the highest entropy is the darkest"


def test_tables_keep_their_cells(groups: list[tuple[RolloutGroup, list[ShownRollout]]]) -> None:
    lines = markdown(groups).splitlines()
    assert len(lines) == 2 + 3
    assert all(line.replace("\\|", "").count("|") == 7 for line in lines[2:])
    written = StringIO()
    Console(width=200, file=written).print(terminal_table(groups, "title"))
    assert "[red]&\\[/x]" in written.getvalue()
