"""Chats in cells of data sets: lists of turns, with contents of text or of text parts."""

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from asym_lightning.tasks.cells import CellError, kind_of, plain_text

ROLES = ("system", "user", "assistant")
# What a turn may hold beside its content, and a prompt of text cannot.
NOT_TEXT = (
    *("tool_calls", "function_call", "tool_call_id"),
    *("image", "images", "video", "videos", "audio", "audios"),
)
# Objects as programs write them into a cell of text, in JSON or in Python's form.
_OBJECTS = re.compile(r"""\s*\[?\s*\{\s*["']""")
# Fields of objects that are turns, or hold turns.
_FIELDS = {"role", "from", "messages", "conversations"}
_TURNS = re.compile(rf"""[{{,]\s*["']({"|".join(sorted(_FIELDS))})["']\s*:""")

Turns = tuple[tuple[str, str], ...]


def chat_turns(cell: Any) -> Turns | None:
    """Return the turns (role, content) of a chat, ``None`` for a cell that is not a chat.

    A system turn without content is left out. Raises ``CellError`` for a chat that is not made of
    texts by known roles, or does not end with the user.
    """
    if isinstance(cell, bytes | str) and (text := plain_text(cell)) and _OBJECTS.match(text):
        cell = _written_turns(text)
    if not isinstance(cell, list | tuple) or not cell:
        return None
    if not any(isinstance(turn, Mapping) for turn in cell):
        raise CellError("holds a list, which is neither a text nor a chat")
    turns = [_turn(number, turn) for number, turn in enumerate(cell, start=1)]
    roles = [role for role, _ in turns]
    if roles[-1] != "user" or any(role not in ROLES for role in roles):
        raise CellError(
            f"has a chat of the roles {', '.join(roles)}; they must be system, user or assistant, "
            "and the last one user"
        )
    return tuple((role, content) for role, content in turns if content or role != "system")


def _written_turns(text: str) -> list[Any] | None:
    """Return the turns that a text writes down, ``None`` for another text.

    Raises ``CellError`` for turns that cannot be read.
    """
    value = None
    for read in (json.loads, ast.literal_eval):
        try:
            # Python warns of backslashes that it would not write.
            with warnings.catch_warnings(action="ignore"):
                value = read(text)
            break
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    if value is None:
        if _TURNS.search(text[:500]):
            raise CellError("holds a chat as text, which is neither JSON nor a list of Python")
        return None
    objects = value if isinstance(value, list) else [value]
    if not any(isinstance(entry, dict) and entry.keys() & _FIELDS for entry in objects):
        return None
    if not isinstance(value, list):
        raise CellError("holds an object as text; a chat is a list of turns")
    return value


def _turn(number: int, turn: Any) -> tuple[str, str]:
    """Return role and content of a turn. Raises ``CellError``."""
    if not isinstance(turn, Mapping):
        raise CellError(f"has a chat whose turn {number} is {kind_of(turn)}, no turn")
    role = turn.get("role")
    if not isinstance(role, str) or not role or not role.isprintable():
        raise CellError(f"has a chat whose turn {number} has no role")
    for key in NOT_TEXT:
        if turn.get(key):
            raise CellError(f"has a chat whose turn {number} has {key}; only text can be learned")
    try:
        return role[:50], _content(turn.get("content"))
    except CellError as error:
        raise CellError(f"has a chat whose turn {number} {error}") from None


def _content(content: Any) -> str:
    """Return the content of a turn as text. Raises ``CellError``."""
    if isinstance(content, Mapping):
        content = [content]
    if isinstance(content, Sequence) and not isinstance(content, str | bytes | bytearray):
        return "".join(_part(part) for part in content)
    return _text(content)


def _part(part: Any) -> str:
    """Return the text of a part of a content. Raises ``CellError``."""
    if not isinstance(part, Mapping):
        return _text(part)
    kind = part.get("type") or "text"
    others = [key for key, value in part.items() if key not in ("type", "text") and value]
    if kind != "text" or "text" not in part or any("image" in key for key in others):
        named = kind if kind != "text" else ", ".join(map(str, others)) or "no text"
        raise CellError(f"has a part of the type {str(named)[:50]!r}; only text can be learned")
    return _text(part["text"])


def _text(value: Any) -> str:
    """Return a value as it is written, white space included; "" for none."""
    text = plain_text(value)
    return value if isinstance(value, str) and text is not None else text or ""
