"""Refuse names and phrases that make code hard to read: `python scripts/words.py [FILES]`.

Without files it looks at the package, the callbacks, the plugins and the entries: at the names
that they bind, and at their docstrings, comments and texts. It prints a line for each finding.
Exit status 1 if there is any.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("asym_lightning", "callbacks", "hydra_plugins", "train.py", "evaluate.py", "compare.py")

# Name -> what to write in its place.
NAMES = {
    "bins_of": "pack_bins",
    "Draw": "SamplingRequest",
    "heed": "handler, or what it is",
    "Made": "CollectedRollouts",
    "made": "a noun: what was made",
    "none": "zero_logp, or what it is",
    "nothing": "zero_with_graph, or what it is",
    "one": "a noun: what it is one of",
    "only_right": "only_correct",
    "own_share": "own_shard",
    "peers": "dp_group",
    "present": "gathered, or what it is",
    "right": "correct",
    "share_of": "rollout_shard",
    "sharers": "tp_group",
    "stand": "rollout_weights",
    "standing": "token_weights",
    "thinned": "keep_weighted",
    "whole": "full_tensor, or what it is",
}
# Regular expression -> what to write in its place. The case of letters does not count.
PHRASES = {
    r"\bothers than\b": "other ... than",
    r"\bso anyway\b": "say what happens",
    r"\bof which\b": "a sentence of its own",
    r"\bfor want of\b": "because ... is missing",
    r"\bwithout a word\b": "silently",
    r"\bof before\b": "earlier, previous",
    r"\bthe one at hand\b": "the current one",
    r"\bthat is none\b": "that is not a ...",
    r"\bis none of\b": "is not a ...",
    r"\bare none\b": "are not ...",
    r"\bmeanwhile\b": "while ...",
    r"\b(is|are) to be \w+ed\b": "must be, or the active verb",
    r"\bheed(s|ed)?\b": "handle, follow",
    r"\bhas none\b": "has no ...",
    r"\bwhoever\b": "name who",
}
# The beginning of a docstring should be a noun or a verb.
STARTS = r"(What|Who|Which|Where|Of)\b"


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every string, those within f-strings included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names of functions, classes, arguments, variables and attributes that the file sets."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def findings(file: Path) -> Iterator[str]:
    """A line for each banned name and phrase in a file."""
    source = file.read_text(encoding="utf-8")
    tree = ast.parse(source)
    for line, name in bound_names(tree):
        if name.lstrip("_") in NAMES:
            yield f"{line}: the name {name}; better: {NAMES[name.lstrip('_')]}"
    for line, text in (*strings(tree), *comments(source)):
        joined = " ".join(text.split())
        for phrase, better in PHRASES.items():
            if match := re.search(phrase, joined, re.IGNORECASE):
                yield f"{line}: '{match[0]}'; better: {better}"
    for line, text in docstrings(tree):
        if match := re.match(STARTS, text):
            yield f"{line}: a docstring begins with '{match[0]}'; better: a noun or a verb"


def main() -> int:
    given = [Path(name).resolve() for name in sys.argv[1:]]
    places = [ROOT / place for place in PLACES]
    searched = [[place] if place.suffix else sorted(place.rglob("*.py")) for place in places]
    files = given or [file for found in searched for file in found]
    count = 0
    for file in files:
        for finding in findings(file):
            print(f"{file.relative_to(ROOT)}:{finding}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
