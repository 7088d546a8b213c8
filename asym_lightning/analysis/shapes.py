"""docs/methods.md and the picture of A_pos(p) and A_neg(p), both made from conf/algo: `python -m asym_lightning.analysis.shapes`."""

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
INTRODUCTION = f"""# Methods

Made by `python -m asym_lightning.analysis.shapes` from `conf/algo/` and the docstrings; a test keeps it current.

![A_pos and A_neg against the group's accuracy](images/shapes.png)

The advantages are of one group of G = {GROUP} rollouts with binary rewards: right / wrong. A dash: there is no such rollout at this p.
Methods that look at the whole batch (`reinforce_pp`, `reinforce_pp_baseline`, `a_grae`, `fade`) are given this one group as their batch."""


def methods() -> dict[str, Any]:
    """Name -> composed ``algo`` config of every file in conf/algo."""
    names = sorted(path.stem for path in (config_dir() / "algo").glob("*.yaml"))
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return {name: compose("train", [f"algo={name}"]) for name in names}


def shape(advantage: Any) -> list[tuple[float | None, float | None]]:
    """(A_pos, A_neg) for 0 to ``GROUP`` right rollouts of a group; None where there is no rollout of that sign."""
    values = []
    for right in range(GROUP + 1):
        rewards = torch.tensor([[1.0] * right + [0.0] * (GROUP - right)], dtype=torch.float64)
        row = advantage(rewards)[0].tolist()
        values.append((row[0] if right else None, row[-1] if right < GROUP else None))
    return values


def page() -> str:
    """The text of docs/methods.md."""
    sections = [INTRODUCTION]
    lines = ["| `algo=` | p = 0 | p = 1/8 | p = 1/2 | p = 7/8 | p = 1 |", "|---|---|---|---|---|---|"]
    configs = methods()
    for name, config in configs.items():
        values = shape(instantiate(config.algo).advantage)
        cells = [" / ".join("-" if v is None else f"{v + 0.0:.3g}" for v in values[right]) for right in (0, 1, 4, 7, 8)]
        lines.append(f"| [`{name}`](#{name}) | " + " | ".join(cells) + " |")
    sections += ["\n".join(lines), "## By name"]
    parts: dict[str, str] = {}
    for name, config in configs.items():
        sections.append(_section(name, config, parts))
    sections += ["## Corrections", _corrections(parts), "## Parts"]
    sections += [f"### Part: {title}\n\n{text}" for title, text in sorted(parts.items())]  # GSPO and gspo must not share an anchor
    return "\n\n".join(sections) + "\n"


def _section(name: str, config: Any, parts: dict[str, str]) -> str:
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
    """Every file of conf/correction; any method takes any of them."""
    rows = ["Weights for tokens of which the engine and the trainer hold different log-probs; any method takes any of them.", ""]
    for path in sorted((config_dir() / "correction").glob("*.yaml")):
        piece = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(piece, dict)
        rows.append(_line(f"`correction={path.stem}`", piece, parts))
    return "\n".join(rows)


def _line(key: str, piece: dict[Any, Any], parts: dict[str, str]) -> str:
    """One part with its settings; what it is goes into ``parts``."""
    title = piece["_target_"].rpartition(".")[2]
    settings = ", ".join(f"{k} {v}" for k, v in piece.items() if not k.startswith("_"))
    parts.setdefault(title, _documentation(piece["_target_"]))
    return f"- {key}: [{title}](#part-{title.lower()})" + (f", {settings}" if settings else "")


def _documentation(target: str) -> str:
    """The docstring of a part, its indented formulas as code, its arguments as a list; what it raises stays in the source."""
    text = inspect.cleandoc(get_object(target).__doc__).split("\nRaises:")[0].strip().replace("``", "`")
    text, _, arguments = re.sub(r":class:`(\w+)`", r"`\1`", text).partition("\nArgs:\n")
    items = re.findall(r"(?ms)^ {4}(\w[^:\n]*): (.*?)(?=^ {4}\w|\Z)", arguments)
    text = re.sub(r"(?m)(?:^ {4}.*\n?)+", lambda found: f"```\n{inspect.cleandoc(found.group()).rstrip()}\n```\n", text)
    return "\n".join([text, *(f"- `{name}`: {' '.join(what.split())}" for name, what in items)])


def draw(target: Path) -> None:
    """The picture: methods with the same curve share one line."""
    import matplotlib.pyplot as plt

    curves: dict[str, list[str]] = {}
    shapes: dict[str, list[tuple[float | None, float | None]]] = {}
    for name, config in methods().items():
        values = shape(instantiate(config.algo).advantage)
        key = str([[None if v is None else round(v, 6) for v in pair] for pair in values])
        curves.setdefault(key, []).append(name)
        shapes[key] = values
    figure, axes = plt.subplots(1, 2, figsize=(12, 9), layout="constrained")
    axis_p = [right / GROUP for right in range(GROUP + 1)]
    for i, (key, names) in enumerate(curves.items()):
        label = textwrap.fill(", ".join(names), 75)
        style = {"color": plt.get_cmap("tab20")(i % 20), "marker": "os^vDPX"[i % 7], "markersize": 4, "label": label}
        for side, axis in enumerate(axes):
            axis.plot(axis_p, [float("nan") if pair[side] is None else pair[side] for pair in shapes[key]], **style)
    for axis, title in zip(axes, ("right rollouts: A_pos(p)", "wrong rollouts: A_neg(p)"), strict=True):
        axis.set(title=title, xlabel=f"accuracy p of the group (G = {GROUP})", yscale="symlog")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize=8, ncols=2)
    figure.savefig(target, dpi=110)


def main() -> None:
    (DOCS / "images").mkdir(parents=True, exist_ok=True)
    (DOCS / "methods.md").write_text(page())
    draw(DOCS / "images" / "shapes.png")
    print(f"wrote {DOCS / 'methods.md'} and {DOCS / 'images' / 'shapes.png'}")


if __name__ == "__main__":
    main()
