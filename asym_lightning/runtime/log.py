"""Messages of a process: each one that is logged becomes a line, on rank 0 alone.

Notes (INFO) go to stdout; warnings and errors go to stderr, marked ``warning:`` or ``error:``.
"""

import logging
import os
import sys

from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from asym_lightning.runtime.characters import clean_text

# The plugin by its full name: beside it in its package are those of Hydra.
LOGGERS = ("asym_lightning", "callbacks", "hydra_plugins.missing_runs")
# The argument `extra` of a message that every rank shows, not only rank 0: its own trouble, say.
ALL_RANKS = {"all_ranks": True}


class LineHandler(RichHandler):
    """rich's handler without columns: lines are not wrapped, and coloured on a terminal only."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level, is_note = record.levelname.lower(), record.levelno < logging.WARNING
            mark = Text("" if is_note else f"{level}: ", f"logging.level.{level}")
            text = self.render_message(record, self.format(record))
            console = Console(stderr=not is_note)
            with console.capture() as line:
                console.print(mark, text, sep="", soft_wrap=True)
            # While a bar is live this stream writes above it; the console would write into it.
            stream = sys.stdout if is_note else sys.stderr
            stream.write(clean_text(line.get()))
            stream.flush()
        except Exception:
            self.handleError(record)


def is_shown(record: logging.LogRecord) -> bool:
    """Whether this rank shows a message: rank 0 shows all, the others those for all ranks."""
    return getattr(record, "all_ranks", False) or is_rank_zero()


def is_rank_zero() -> bool:
    """Whether this process is rank 0, as far as it is known yet.

    Before Lightning has the rank over all machines, the launcher has set the one on this machine.
    """
    lightning = sys.modules.get("lightning_utilities.core.rank_zero")
    rank = getattr(getattr(lightning, "rank_zero_only", None), "rank", 0)
    return rank == 0 and os.environ.get("LOCAL_RANK", "0") == "0"


def show_messages() -> None:
    """Show what the loggers of the package get, by one handler.

    A later call shows it again after others have configured logging: Hydra, and Alembic in a
    search with Optuna, disable all loggers that they find.
    """
    handler = LineHandler()
    handler.addFilter(is_shown)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        if logger.level == logging.NOTSET:  # hydra.verbose may have set another level
            logger.setLevel(logging.INFO)
    ours = tuple(f"{name}." for name in LOGGERS)
    for name, known in list(logging.root.manager.loggerDict.items()):
        if f"{name}.".startswith(ours) and isinstance(known, logging.Logger):
            known.disabled = False
