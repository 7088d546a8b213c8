"""The rooms of the code and their imports: `python scripts/rooms.py` draws docs/images/rooms.svg.

``tests/unit/test_layers.py`` checks with the same functions that every import leads downwards.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "images" / "rooms.svg"
ENTRIES = ("train", "evaluate", "compare")  # thin scripts of a checkout
OUTSIDE = ("callbacks", "hydra_plugins", *ENTRIES)  # parts of the code beside the package
WIDTH, BOX_WIDTH, BOX_HEIGHT = 980, 214, 76
COLUMN_WIDTH, ROW_HEIGHT, LEFT, TOP = 240, 118, 14, 16
# Column and row of each box. An arrow that would lead upwards is refused.
PLACES = {
    "commands": (1.9, 0),
    "analysis": (0.9, 1),
    "config": (1.9, 1),
    "callbacks": (2.1, 2),
    "doctor": (0.1, 3),
    "metrics": (1.2, 3),
    "learner": (0.5, 4),
    "rollout": (2.2, 4),
    "tasks": (1.6, 5),
    "verify": (1.75, 6),
    "algorithms": (0.2, 7),
    "runtime": (2.0, 7),
}


def files() -> list[Path]:
    """Every Python file of the package, the callbacks, the plugins and the entries."""
    folders = (ROOT / "asym_lightning", ROOT / "callbacks", ROOT / "hydra_plugins")
    inside = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    return [*inside, *(ROOT / f"{name}.py" for name in ENTRIES)]


def imports(file: Path) -> Iterator[str]:
    """Dotted names that a file imports, within functions too, except those for types alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    branches = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    for_types = [node for node in branches if ast.unparse(node.test) == "TYPE_CHECKING"]
    skipped = {id(inner) for node in for_types for part in node.body for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(name: str) -> str | None:
    """The room of a dotted name, or the module beside the rooms; None for other packages."""
    first, _, rest = name.partition(".")
    if first == "asym_lightning":
        return rest.partition(".")[0]
    return first if first in OUTSIDE else None


def room_of(file: Path) -> str:
    """The room of a file."""
    found = room(".".join(file.relative_to(ROOT).with_suffix("").parts))
    assert found is not None, file
    return found


def rooms() -> list[str]:
    """The rooms: packages with code, and the callbacks."""
    package = ROOT / "asym_lightning"
    return [*sorted(path.name for path in package.iterdir() if any(path.glob("*.py"))), "callbacks"]


def arrows() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    found: dict[str, set[str]] = {name: set() for name in rooms()}
    for file in files():
        importer = room_of(file)
        if importer in found:
            found[importer] |= {other for name in imports(file) if (other := room(name)) in found}
    return {name: below - {name} for name, below in found.items()}


def drawn(below: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows without those that follow from others."""

    def reached(name: str) -> set[str]:
        return below[name].union(*(reached(other) for other in below[name]))

    return {name: others - set().union(*map(reached, others)) for name, others in below.items()}


def purpose(name: str) -> str:
    """The sentence at the top of a room."""
    folder = ROOT / name if name == "callbacks" else ROOT / "asym_lightning" / name
    return str(ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))))


def corner(name: str) -> tuple[float, float]:
    """The upper left corner of a box."""
    column, row = PLACES[name]
    return LEFT + column * COLUMN_WIDTH, TOP + row * ROW_HEIGHT


def picture() -> str:
    """The SVG: a box for each room, above all rooms that it imports."""
    below = arrows()
    height = TOP + ROW_HEIGHT * (1 + max(row for _, row in PLACES.values())) - 20
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
        "<title>The rooms of the code; an arrow leads from a room to one that it imports</title>"
        "<style>text{font-family:system-ui,sans-serif;fill:#1d2733;text-anchor:middle}"
        ".name{font-size:15px;font-weight:600}.text{font-size:11px}"
        ".arrow{fill:none;stroke:#5a6472;stroke-width:1.3}</style>"
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 Z" fill="#5a6472"/></marker></defs>'
    )
    pairs = [(name, other) for name, others in drawn(below).items() for other in others]
    lines = [arrow(name, other) for name, other in sorted(pairs)]
    return "".join([head, *lines, *map(box, sorted(below)), "</svg>\n"])


def arrow(name: str, other: str) -> str:
    """A curve from the lower side of a room's box to the upper side of a room that it imports.

    Raises:
        ValueError: the other one is not below.
    """
    if PLACES[other][1] <= PLACES[name][1]:
        raise ValueError(f"{name}/ imports {other}/, which is not below it")
    (x, y), (x_end, y_end) = corner(name), corner(other)
    x, y, x_end, y_end = x + BOX_WIDTH / 2, y + BOX_HEIGHT, x_end + BOX_WIDTH / 2, y_end - 2
    path = f"M{x:g} {y:g} C{x:g} {y + 30:g} {x_end:g} {y_end - 30:g} {x_end:g} {y_end:g}"
    return f'<path d="{path}" class="arrow" marker-end="url(#head)"/>'


def box(name: str) -> str:
    """A room with its sentence."""
    x, y = corner(name)
    colour = "#fde9cf" if name == "callbacks" else "#dce3f7"
    middle = x + BOX_WIDTH / 2
    shape = (
        f'<rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" '
        f'fill="{colour}" stroke="#5a6472"/>'
    )
    title = f'<text x="{middle:g}" y="{y + 18:g}" class="name">{name}/</text>'
    sentence = wrap(purpose(name).replace("`", ""), 36)[:4]
    lines = [
        f'<text x="{middle:g}" y="{y + 33 + 12 * i:g}" class="text">{escape(line)}</text>'
        for i, line in enumerate(sentence)
    ]
    return "".join([shape, title, *lines])


if __name__ == "__main__":
    TARGET.write_text(picture(), encoding="utf-8")
