"""SmolLM2 for 60 iterations at three temperatures: `python benchmarks/real_model.py FOLDER`.

Small sums in words, in bf16 and in fp32; about five minutes a run on two cores, six runs. Prints
for each whether it ended, the bound on the mean gap between engine and trainer, and the largest
mean gap that was seen. Runs that are in FOLDER are left out: start it again to go on.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ITERATIONS = 60
PRECISIONS = {"bf16": "bf16-mixed", "fp32": "32-true"}
TEMPERATURES = (0.7, 1.0, 1.3)
WORDS = {
    "plus": ("What is {a} plus {b}?", "Add {a} and {b}.", "{a} + {b} = ?"),
    "minus": ("What is {a} minus {b}?", "Subtract {b} from {a}.", "{a} - {b} = ?"),
    "times": ("What is {a} times {b}?", "Multiply {a} by {b}.", "{a} * {b} = ?"),
}


def problems(count: int = 600) -> list[dict[str, str]]:
    """Sums of numbers up to 20, products of numbers up to 9, in three wordings."""
    chance, rows = random.Random(0), {}
    while len(rows) < count:
        kind = chance.choice(list(WORDS))
        most = 9 if kind == "times" else 20
        a, b = chance.randint(2, most), chance.randint(2, most)
        answer = {"plus": a + b, "minus": a - b, "times": a * b}[kind]
        text = chance.choice(WORDS[kind]).format(a=a, b=b)
        rows[text] = {"problem": text, "answer": str(answer)}
    return list(rows.values())


def command(data: Path, folder: Path, precision: str, temperature: float) -> list[str]:
    return [
        *(sys.executable, "train.py", "policy=smollm2", "task=math", f"task.path={data}"),
        *("verify@task.verify=number", "task.instruction='Answer with the number only.'"),
        *("rollout.prompts_per_iteration=8", "rollout.group_size=4", "rollout.max_tokens=12"),
        *(f"rollout.temperature={temperature}", f"trainer.precision={precision}"),
        *("policy.optimizer.learning_rate=2e-5", "policy.gradient_checkpointing=false"),
        *(f"trainer.max_epochs={ITERATIONS}", "callbacks.evaluation.problems=0"),
        *("callbacks.checkpoint=null", "callbacks.policy=null", f"hydra.run.dir={folder}"),
    ]


def line(name: str, folder: Path) -> str:
    """What a run says of itself."""
    summary = json.loads((folder / "summary.json").read_text())
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("reward/mean")]
    means = [float(row["engine/logprob_gap_mean"]) for row in rows]
    largest = max(float(row["engine/logprob_gap_max"]) for row in rows)
    first, last = rows[0], rows[-1]
    return (
        f"{name}: {summary['status']}, {len(rows)} iterations, mean gap {means[0]:.2g} at first, "
        f"largest {max(means):.2g}, single token {largest:.2g}; reward "
        f"{float(first['reward/mean']):.2f} to {float(last['reward/mean']):.2f}, entropy "
        f"{float(first['entropy/policy']):.2f} to {float(last['entropy/policy']):.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in problems()))
    for name, precision in PRECISIONS.items():
        for temperature in TEMPERATURES:
            run = folder / f"{name}_{temperature}"
            if not (run / "summary.json").is_file():
                output = folder / f"{run.name}.log"
                with output.open("w") as log:
                    subprocess.run(
                        command(data, run, precision, temperature),
                        cwd=ROOT,
                        stdout=log,
                        stderr=log,
                        check=False,
                    )
            print(line(f"{name}, temperature {temperature}", run), flush=True)


if __name__ == "__main__":
    main()
