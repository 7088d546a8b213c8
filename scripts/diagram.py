"""Draw docs/images/iteration.svg, the data flow of an iteration: `python scripts/diagram.py`."""

from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

TARGET = Path(__file__).resolve().parent.parent / "docs" / "images" / "iteration.svg"
WIDTH, HEIGHT = 980, 500
BOX_W, BOX_H = 164, 58
COLUMNS = [24, 216, 408, 600, 792]
ROWS = {"rollouts": 56, "scores": 214, "learning": 294, "end": 424}
FILLS = {"policy": "#dce3f7", "rollout": "#d9f0e4", "algorithm": "#fde9cf", "record": "#ececec"}

# name: (column, row, colour, title, second line)
BOXES = {
    "task": (0, "rollouts", "rollout", "task", "prompts"),
    "engine": (1, "rollouts", "rollout", "rollout engine", "G completions per prompt"),
    "verifier": (2, "rollouts", "rollout", "verifier", "a reward each"),
    "data": (3, "rollouts", "rollout", "data module", "packed mini-batches"),
    "score": (0, "scores", "policy", "policy", "log-probs and entropies"),
    "advantage": (0, "learning", "algorithm", "advantage", "from rewards"),
    "modulation": (1, "learning", "algorithm", "entropy modulation", "advantages, loss terms"),
    "loss": (2, "learning", "algorithm", "policy loss", "one value per token"),
    "aggregation": (3, "learning", "algorithm", "aggregation", "weights by global counts"),
    "step": (4, "learning", "policy", "optimizer step", "backward, clip, step"),
    "metrics": (3, "end", "record", "metrics, rollouts", "means by counts, all ranks"),
    "checkpoint": (4, "end", "record", "checkpoint", "if due"),
}
LANES = [
    (14, 22, 116, "on_train_epoch_start: the rollout callback"),
    (14, 180, 186, "training_step: once per mini-batch"),
    (14, 392, 102, "on_train_epoch_end"),
]


def place(name: str) -> tuple[int, int]:
    """Return the upper left corner of a box."""
    column, row, *_ = BOXES[name]
    return COLUMNS[column], ROWS[row]


def box(name: str) -> str:
    x, y = place(name)
    _, _, colour, title, text = BOXES[name]
    middle = x + BOX_W / 2
    return (
        f'<rect x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="6" '
        f'fill="{FILLS[colour]}" stroke="#5a6472"/>'
        f'<text x="{middle:g}" y="{y + 25}" class="title">{escape(title)}</text>'
        f'<text x="{middle:g}" y="{y + 44}" class="small">{escape(text)}</text>'
    )


def arrow(
    points: list[tuple[float, float]], label: str = "", at: tuple[float, float] = (0, 0)
) -> str:
    """Return an arrow along ``points``, with its label at the point ``at``."""
    path = " L".join(f"{x:g} {y:g}" for x, y in points)
    text = ""
    if label:
        text = f'<text x="{at[0]:g}" y="{at[1]:g}" class="label">{escape(label)}</text>'
    return f'<path d="M{path}" class="arrow" marker-end="url(#head)"/>{text}'


def arrow_beside(box_name: str, neighbour: str) -> str:
    """Return an arrow from a box to its neighbour on the right."""
    (x, y), (x2, _) = place(box_name), place(neighbour)
    return arrow([(x + BOX_W, y + BOX_H / 2), (x2 - 2, y + BOX_H / 2)])


def flows() -> list[str]:
    """Return the arrows from row to row."""
    data_x, data_y = place("data")
    score_x, score_y = place("score")
    modulation_x, modulation_y = place("modulation")
    step_x, step_y = place("step")
    metrics_x, metrics_y = place("metrics")
    engine_x, engine_y = place("engine")
    half_w, half_h = BOX_W / 2, BOX_H / 2
    learning_y = ROWS["learning"] + half_h
    data_to_score = [
        (data_x + half_w, data_y + BOX_H),
        (data_x + half_w, 160),
        (6, 160),
        (6, score_y + half_h),
        (score_x - 2, score_y + half_h),
    ]
    data_to_advantage = [(6, score_y + half_h), (6, learning_y), (score_x - 2, learning_y)]
    score_to_modulation = [
        (score_x + BOX_W, score_y + half_h),
        (modulation_x + half_w, score_y + half_h),
        (modulation_x + half_w, modulation_y - 2),
    ]
    step_to_metrics = [
        (step_x + half_w, step_y + BOX_H),
        (step_x + half_w, 380),
        (metrics_x + half_w, 380),
        (metrics_x + half_w, metrics_y - 2),
    ]
    step_to_engine = [
        (step_x + half_w, step_y),
        (step_x + half_w, 10),
        (engine_x + half_w, 10),
        (engine_x + half_w, engine_y - 2),
    ]
    return [
        arrow(data_to_score, "rewards, tokens, the engine's log-probs", (data_x - 300, 155)),
        arrow(data_to_advantage),
        arrow(score_to_modulation),
        arrow(step_to_metrics),
        arrow(
            step_to_engine,
            "weights, synced before each iteration's rollouts",
            (engine_x + half_w + 8, engine_y - 14),
        ),
    ]


STYLE = (
    "text{font-family:system-ui,sans-serif;fill:#1d2733}"
    ".title{font-size:14px;font-weight:600;text-anchor:middle}"
    ".small{font-size:11px;text-anchor:middle}"
    ".label,.lane-name{font-size:12px;fill:#3f4a58}.lane-name{font-style:italic}"
    ".lane{fill:#f7f8fa;stroke:#c6ccd4}.arrow{fill:none;stroke:#3f4a58;stroke-width:1.5}"
)


def picture() -> str:
    """Return the contents of the file."""
    lanes = "".join(
        f'<rect x="{x}" y="{y}" width="{WIDTH - 2 * x}" height="{h}" rx="8" class="lane"/>'
        f'<text x="{x + 10}" y="{y + 20}" class="lane-name">{t}</text>'
        for x, y, h, t in LANES
    )
    chains = (
        ["task", "engine", "verifier", "data"],
        ["advantage", "modulation", "loss", "aggregation", "step"],
        ["metrics", "checkpoint"],
    )
    arrows = [arrow_beside(a, b) for names in chains for a, b in pairwise(names)] + flows()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        "<title>One iteration: prompts, rollouts, verification, learning, metrics</title>"
        f"<style>{STYLE}</style>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" '
        'markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 Z" fill="#3f4a58"/></marker></defs>'
        f"{lanes}{''.join(arrows)}{''.join(box(name) for name in BOXES)}</svg>\n"
    )


if __name__ == "__main__":
    TARGET.write_text(picture(), encoding="utf-8")
    print(f"wrote {TARGET}")
