"""Messages: a line each, from one rank, to the right stream, whatever else configures logging."""

import ast
import io
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch.utilities import rank_zero_only

from asym_lightning.runtime.log import ALL_RANKS, LOGGERS, LineHandler, show_messages
from asym_lightning.runtime.progress import Bar
from tests.support import ROOT

log = logging.getLogger("asym_lightning.runtime.some")
# Longer than any line of a terminal, with what rich reads as markup and as an emoji.
LONG = f"[bold]{' word' * 100} [/x] :warning: 100% of {{'a': 1}}"
# Functions ("": the module) with output that is no message: results and their paths, refusals,
# replies to another process.
RESULTS = {
    "analysis/command.py": {"main"},
    "analysis/shapes.py": {"main"},
    "commands/cli.py": {"_refuse", "entry"},
    "commands/evaluate/run.py": {"run"},
    "commands/export.py": {"main"},
    "commands/sweeps.py": {"report"},
    "commands/warmstart.py": {"main"},
    "doctor/model.py": {""},
    "doctor/running.py": {""},
    "rollout/serve.py": {"main"},
    "verify/__main__.py": {"main"},
    "verify/jail.py": {""},
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_notes_go_to_stdout_and_marked_warnings_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.debug("unseen")
    log.info("a note")
    logging.getLogger("callbacks.some").info("another")
    log.warning("beware")
    log.error("bad")
    said = capsys.readouterr()
    assert said.out == "a note\nanother\n"
    assert said.err == "warning: beware\nerror: bad\n"


def test_a_message_is_one_line_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    log.info(LONG)
    log.warning(LONG)
    assert capsys.readouterr() == (f"{LONG}\n", f"warning: {LONG}\n")


def test_half_of_a_surrogate_pair_is_shown_as_a_replacement(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Not by a logger: pytest would keep the message, and its workers could not send it.
    record = logging.makeLogRecord({"msg": "data/\ud800.jsonl", "levelno": logging.INFO})
    LineHandler().emit(record)
    assert capsys.readouterr() == ("data/\ufffd.jsonl\n", "")


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make a narrow terminal stdout and stderr of this process."""
    for variable, value in {"TERM": "xterm-256color", "COLUMNS": "40"}.items():
        monkeypatch.setenv(variable, value)
    for variable in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    terminal = Terminal()
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, terminal)
    return terminal


def test_a_terminal_shows_the_same_text_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    log.warning(LONG)
    shown = terminal.getvalue()
    assert "\x1b[" in shown
    assert re.sub(r"\x1b\[[\d;]*m", "", shown) == f"warning: {LONG}\n"


def test_a_message_appears_above_a_live_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    bar = Bar("iterations", 2, 1)
    bar.update(1, "reward")
    log.info("first note")  # the bar is drawn after it, if not before
    log.info("second note")
    bar.close()
    shown = terminal.getvalue()
    assert "first note\niterations" in shown
    assert "\x1b[2Ksecond note\niterations" in shown, "the bar is erased, and drawn again below"


@pytest.mark.parametrize("known_by", ["lightning", "launcher"])
def test_other_ranks_show_only_what_is_for_all_ranks(
    known_by: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if known_by == "lightning":
        monkeypatch.setattr(rank_zero_only, "rank", 1)
    else:
        monkeypatch.setenv("LOCAL_RANK", "1")
    log.info("for one")
    log.warning("for one")
    log.info("its own", extra=ALL_RANKS)
    log.error("its trouble", extra=ALL_RANKS)
    assert capsys.readouterr() == ("its own\n", "error: its trouble\n")


def test_a_message_that_cannot_be_written_stops_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    log.info("ä")
    assert "UnicodeEncodeError" in capsys.readouterr().err


def test_later_calls_add_no_handler_and_keep_a_chosen_level() -> None:
    logger = logging.getLogger("asym_lightning")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        show_messages()
        show_messages()
        assert logger.level == logging.DEBUG
        assert [len(logging.getLogger(name).handlers) for name in LOGGERS] == [1, 1, 1]
    finally:
        logger.setLevel(before)


def test_hydras_logging_neither_swallows_nor_doubles_a_message() -> None:
    """`disabled` is what conf/hydra/default.yaml has, and the others a user may choose."""
    program = """
import logging
from hydra import compose, initialize_config_dir
from hydra.core.utils import configure_log
from asym_lightning.runtime import config_dir, setup

setup()
log = logging.getLogger("asym_lightning.some")
with initialize_config_dir(str(config_dir()), version_base="1.3"):
    for choice in ("disabled", "default", "none"):
        hydra = compose("train", [f"hydra/hydra_logging={choice}"], return_hydra_config=True).hydra
        configure_log(hydra.hydra_logging, hydra.verbose)
        configure_log(hydra.job_logging, hydra.verbose)
        setup()
        log.info(choice)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("disabled\ndefault\nnone\n", "")


def printing(file: Path) -> set[str]:
    """The functions of a file that call print; "" for the module itself."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = {
        node: function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    return {
        inside.get(node, "")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    }


def test_what_is_no_result_is_logged() -> None:
    places = ("asym_lightning", "callbacks", "hydra_plugins")
    files = [file for place in places for file in (ROOT / place).rglob("*.py")]
    called = {file: printing(file) for file in (*ROOT.glob("*.py"), *files)}
    assert len(called) > 150
    found = {str(file.relative_to(ROOT)): names for file, names in called.items() if names}
    expected = {f"asym_lightning/{name}": names for name, names in RESULTS.items()}
    assert found == expected, "log it, as asym_lightning/runtime/log.py says, or name it here"
