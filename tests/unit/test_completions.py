"""Rollouts on display: every token with its numbers, and no text that breaks out of its cell."""

from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from asym_lightning.commands.evaluate.store import Store
from asym_lightning.learner.batch import MiniBatch
from asym_lightning.learner.embedded import byte_tokenizer
from asym_lightning.learner.packing import micro_batches
from asym_lightning.rollout.groups import rows
from asym_lightning.types import Completion, Kind, Problem, Prompt, RolloutGroup, Verdict
from callbacks.completions import (
    ShownRollout,
    markdown,
    page,
    rewarded_texts,
    shown,
    terminal_table,
)
from callbacks.record import Recorder, RecordSettings
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


class Reader(HTMLParser):
    """The tags and the text of a page; nothing may be loaded from elsewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_escapes_and_has_one_element_per_token(
    groups: list[tuple[RolloutGroup, list[ShownRollout]]],
) -> None:
    reader = Reader(page(groups, byte_tokenizer(), "title <b>", []))
    assert reader.tags.count("i") == 3 + len(HOSTILE)
    assert "script" not in reader.tags
    assert "b" not in reader.tags
    assert f"problem {HOSTILE}" in reader.text
    assert "title <b>" in reader.text
    assert "cut" in reader.text
    html = page(groups, byte_tokenizer(), "t", [])
    assert "--e:1.00" in html, "the highest entropy is the darkest"


def test_the_page_shows_answers_beside_their_reference() -> None:
    def judged(kind: Kind, answer: str | None, text: str) -> Verdict:
        return Verdict(float(kind is Kind.CORRECT), kind, answer, text=text, reference="1/2 <b>")

    verdicts = [
        judged(Kind.CORRECT, "1/2 <b>", "0.5"),
        judged(Kind.CORRECT, "1/2 <b>", " 1/2  <b>"),  # the reference but for white space
        judged(Kind.CORRECT, "1/2 <b>", "0.5"),  # one example of each
        judged(Kind.CORRECT, "1/2 <b>", HOSTILE + "9" * 300),
        judged(Kind.WRONG, "1/3", "2/6"),
        judged(Kind.UNPARSEABLE, None, "1 2 <script>"),
        Verdict(0.0, Kind.NO_ANSWER),
    ]
    completions = [Completion([], [], "none", truncated=False) for _ in verdicts]
    prompt = Prompt(Problem("p", "half?", "1/2 <b>"), (1, 2))
    group = RolloutGroup(prompt, completions, verdicts)
    rewarded = rewarded_texts([group, group])
    assert rewarded == [("0.5", "1/2 <b>"), (HOSTILE + "9" * 300, "1/2 <b>")]
    pairs = zip(completions, verdicts, strict=True)
    members = [ShownRollout(*pair, logp=[], entropy=[], advantages=[]) for pair in pairs]
    html = page([(group, members)], byte_tokenizer(), "t", rewarded)
    reader = Reader(html)
    assert not {"script", "b"} & set(reader.tags)
    assert reader.tags.count("li") == 2 and "than the reference: 2 of 2" in reader.text
    assert "0.5 for 1/2 <b>" in reader.text and "reference: 1/2 <b>" in reader.text
    assert HOSTILE in reader.text and "9" * 201 not in html, "a long answer is cut"
    for row in (
        "correct</td><td><code>1/2 &lt;b&gt;</code></td><td><code>0.5</code></td>",
        "wrong</td><td><code>1/3</code></td><td><code>2/6</code></td>",
        "unparseable</td><td>-</td><td><code>1 2 &lt;script&gt;</code></td>",
        "no_answer</td><td>-</td><td>-</td>",
    ):
        assert row in html
    many = page([], byte_tokenizer(), "t", [(str(i), "x") for i in range(12)])
    assert Reader(many).tags.count("li") == 10 and "10 of 12" in many
    assert "li" not in Reader(page([(group, members)], byte_tokenizer(), "t", [])).tags


def test_tables_keep_their_cells(groups: list[tuple[RolloutGroup, list[ShownRollout]]]) -> None:
    lines = markdown(groups).splitlines()
    assert len(lines) == 2 + 3
    assert all(line.replace("\\|", "").count("|") == 7 for line in lines[2:])
    written = StringIO()
    Console(width=200, file=written).print(terminal_table(groups, "title"))
    assert "[red]&\\[/x]" in written.getvalue()


# Half of a surrogate pair, and a NUL.
ODD = "a\ud800b\0"
CLEAN = "a\ufffdb\ufffd"


@pytest.fixture
def odd_group() -> RolloutGroup:
    """A rollout whose texts are no characters throughout, its verdict's included."""
    prompt = Prompt(Problem(f"id {ODD}", f"problem {ODD}", ODD), (1, 2))
    completion = Completion([1], [-1.0], ODD, truncated=False)
    verdict = Verdict(0.0, Kind.WRONG, ODD, ODD, text=ODD, reference=ODD)
    return RolloutGroup(prompt, [completion], [verdict])


def test_what_is_no_character_ends_no_record(odd_group: RolloutGroup, tmp_path: Path) -> None:
    nothing: Any = None
    record = Recorder(RecordSettings(str(tmp_path)), nothing)
    record._write([odd_group], 0, 0)
    (row,) = pq.read_table(tmp_path / "rollouts" / "iteration-000000-rank-0.parquet").to_pylist()
    texts = ("problem", "prompt", "reference", "completion", "answer", "text", "detail")
    assert all(row[name].endswith(CLEAN) for name in texts)
    store = Store(tmp_path, "sums")
    store.add([0], [odd_group], rows([odd_group]))
    done = store.finish()[0]
    assert done["completion"] == done["text"] == CLEAN


def test_an_evaluation_goes_on_from_parts_without_the_column_of_texts(
    odd_group: RolloutGroup, tmp_path: Path
) -> None:
    store = Store(tmp_path, "sums")
    store.add([1], [odd_group], rows([odd_group]))
    (new,) = store.parts.iterdir()
    old = pq.read_table(new).drop_columns(["text"]).set_column(0, "number", [[0]])
    pq.write_table(old, store.parts / "00000000.parquet")
    assert [row["text"] for row in store.finish()] == [None, CLEAN]


def test_what_is_no_character_ends_no_page(odd_group: RolloutGroup, tmp_path: Path) -> None:
    class Tokenizer:
        def decode(self, token_ids: list[int]) -> str:
            return ODD

    members = [ShownRollout(odd_group.completions[0], odd_group.verdicts[0], [-1.0], [1.0], [1.0])]
    groups = [(odd_group, members)]
    html = page(groups, Tokenizer(), "t", [])
    # The problem, its reference, the parsed answer, the answer as written, a token.
    assert html.count(CLEAN) == 5 and CLEAN in page([(odd_group, [])], Tokenizer(), "t", [])
    for text in (html, markdown(groups)):
        (tmp_path / "page").write_text(text, encoding="utf-8")
    logger = SummaryWriter(str(tmp_path))
    logger.add_text("completions", markdown(groups), 0)
    logger.close()
    written = StringIO()
    Console(width=200, file=written).print(terminal_table(groups, "title"))
    assert "a\ufffdb" in written.getvalue() and written.getvalue().encode()
