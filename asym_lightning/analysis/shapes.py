"""Write docs/methods.md and the picture of A_pos(p) and A_neg(p) from conf/algo.

The command is `python -m asym_lightning.analysis.shapes`.
"""

import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from asym_lightning.runtime import config_dir

GROUP = 8
DOCS = config_dir().parent / "docs"
INTRODUCTION = (
    "# Methods\n\n"
    "Made by `python -m asym_lightning.analysis.shapes` from `conf/algo/` and the docstrings; "
    "a test keeps it current.\n\n"
    "![A_pos and A_neg against the group's accuracy](images/shapes.png)\n\n"
    f"The advantages are of one group of G = {GROUP} rollouts with binary rewards: right / wrong. "
    "A dash: there is no such rollout at this p.\n"
    "Methods that look at the whole batch (`reinforce_pp`, `reinforce_pp_baseline`, `a_grae`, "
    "`fade`) are given this one group as their batch."
)


def methods() -> dict[str, Any]:
    """Compose the config of every file in conf/algo, by name."""
    names = sorted(path.stem for path in (config_dir() / "algo").glob("*.yaml"))
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return {name: compose("train", [f"algo={name}"]) for name in names}


def shape(advantage: Any) -> list[tuple[float | None, float | None]]:
    """Compute (A_pos, A_neg) for groups with 0 to ``GROUP`` correct rollouts.

    An advantage is None if the group has no rollout of that sign.
    """
    values = []
    for correct in range(GROUP + 1):
        rewards = torch.tensor([[1.0] * correct + [0.0] * (GROUP - correct)], dtype=torch.float64)
        row = advantage(rewards)[0].tolist()
        values.append((row[0] if correct else None, row[-1] if correct < GROUP else None))
    return values


def page() -> str:
    """Return the text of docs/methods.md."""
    sections = [INTRODUCTION]
    lines = [
        "| `algo=` | p = 0 | p = 1/8 | p = 1/2 | p = 7/8 | p = 1 |",
        "|---|---|---|---|---|---|",
    ]
    configs = methods()
    for name, config in configs.items():
        values = shape(instantiate(config.algo).advantage)
        cells = [_cell(values[correct]) for correct in (0, 1, 4, 7, 8)]
        lines.append(f"| [`{name}`](#{name}) | " + " | ".join(cells) + " |")
    sections += ["\n".join(lines), "## By name"]
    parts: dict[str, str] = {}
    for name, config in configs.items():
        sections.append(_section(name, config, parts))
    sections += ["## Corrections", _corrections(parts), "## Parts"]
    # "Part: " in the title keeps the anchors of the loss GSPO and the method gspo apart.
    sections += [f"### Part: {title}\n\n{text}" for title, text in sorted(parts.items())]
    return "\n\n".join(sections) + "\n"


def _cell(pair: tuple[float | None, float | None]) -> str:
    """Both advantages of a group, with a dash for a missing one."""
    # Adding 0.0 turns -0.0 into 0.0.
    return " / ".join("-" if value is None else f"{value + 0.0:.3g}" for value in pair)


def _section(name: str, config: Any, parts: dict[str, str]) -> str:
    """The section of a method: the first line of its file, and its parts with their settings."""
    head = (config_dir() / "algo" / f"{name}.yaml").read_text().splitlines()[0].removeprefix("# ")
    rows = [f"### {name}", "", head, "", f"File: `conf/algo/{name}.yaml`", ""]
    algo = OmegaConf.to_container(config.algo, resolve=True)
    assert isinstance(algo, dict)
    pieces = {key: algo[key] for key in ("advantage", "loss", "aggregation")} | {
        f"modulation.{k}": v for k, v in algo["modulation"].items()
    }
    if algo["rules"].get("resample"):
        pieces["rules.resample"] = algo["rules"].pop("resample")
    if any(v for k, v in algo["rules"].items() if k != "_target_"):
        pieces["rules"] = algo["rules"]
    return "\n".join([*rows, *(_line(key, piece, parts) for key, piece in pieces.items())])


def _corrections(parts: dict[str, str]) -> str:
    """The section of the files in conf/correction; any method takes any of them."""
    rows = [
        "Weights for tokens whose log-probs differ between the engine and the trainer; any method "
        "takes any of them.",
        "",
    ]
    for path in sorted((config_dir() / "correction").glob("*.yaml")):
        piece = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(piece, dict)
        rows.append(_line(f"`correction={path.stem}`", piece, parts))
    return "\n".join(rows)


def _line(key: str, piece: dict[Any, Any], parts: dict[str, str]) -> str:
    """A line with a part and its settings; adds the documentation of the part to ``parts``."""
    title = piece["_target_"].rpartition(".")[2]
    settings = ", ".join(f"{k} {v}" for k, v in piece.items() if not k.startswith("_"))
    parts.setdefault(title, _documentation(piece["_target_"]))
    return f"- {key}: [{title}](#part-{title.lower()})" + (f", {settings}" if settings else "")


def _documentation(target: str) -> str:
    """Convert the docstring of a part to Markdown.

    Indented formulas become code blocks and arguments a list; the ``Raises`` section is left out.
    """
    text = inspect.cleandoc(get_object(target).__doc__).split("\nRaises:")[0].strip()
    text = re.sub(r":class:`(\w+)`", r"`\1`", text.replace("``", "`"))
    text, _, arguments = text.partition("\nArgs:\n")
    items = re.findall(r"(?ms)^ {4}(\w[^:\n]*): (.*?)(?=^ {4}\w|\Z)", arguments)
    text = re.sub(r"(?m)(?:^ {4}.*\n?)+", _code_block, text)
    lines = [f"- `{name}`: {' '.join(description.split())}" for name, description in items]
    return "\n".join([text, *lines])


def _code_block(match: re.Match[str]) -> str:
    return f"```\n{inspect.cleandoc(match.group()).rstrip()}\n```\n"


def draw(target: Path) -> None:
    """Draw A_pos(p) and A_neg(p); methods with the same curve share a line."""
    import matplotlib.pyplot as plt

    curves: dict[str, list[str]] = {}
    shapes: dict[str, list[tuple[float | None, float | None]]] = {}
    for name, config in methods().items():
        values = shape(instantiate(config.algo).advantage)
        key = str([[None if v is None else round(v, 6) for v in pair] for pair in values])
        curves.setdefault(key, []).append(name)
        shapes[key] = values
    figure, axes = plt.subplots(1, 2, figsize=(12, 9), layout="constrained")
    axis_p = [correct / GROUP for correct in range(GROUP + 1)]
    for i, (key, names) in enumerate(curves.items()):
        style = {
            "color": plt.get_cmap("tab20")(i % 20),
            "marker": "os^vDPX"[i % 7],
            "markersize": 4,
            "label": textwrap.fill(", ".join(names), 75),
        }
        for side, axis in enumerate(axes):
            advantages = [
                float("nan") if pair[side] is None else pair[side] for pair in shapes[key]
            ]
            axis.plot(axis_p, advantages, **style)
    titles = ("right rollouts: A_pos(p)", "wrong rollouts: A_neg(p)")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlabel=f"accuracy p of the group (G = {GROUP})", yscale="symlog")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize=8, ncols=2
    )
    figure.savefig(target, dpi=110)


def main() -> None:
    """Write the page and the picture."""
    (DOCS / "images").mkdir(parents=True, exist_ok=True)
    (DOCS / "methods.md").write_text(page())
    draw(DOCS / "images" / "shapes.png")
    print(f"wrote {DOCS / 'methods.md'} and {DOCS / 'images' / 'shapes.png'}")


if __name__ == "__main__":
    main()
