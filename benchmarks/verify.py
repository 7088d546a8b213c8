"""Verification: right answers recognised, hostile ones survived, speed, killed workers.

``python benchmarks/verify.py --data FOLDER`` with the development data in FOLDER; sections by name
(``accuracy hostile speed kills``). The first one compares with math-verify alone. Speed is in
answers per second; workers are killed at random.
"""

import argparse
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from asym_lightning.types import Verdict
from asym_lightning.verify.math import MathVerifier
from asym_lightning.verify.supervised import Worker
from benchmarks.verify_accuracy import accuracy
from benchmarks.verify_data import rows, score
from tests.support.hostile import hostile, strangers

BOMB = "\\boxed{\\sum_{n=1}^{10^9} n!}"


def ordinary(folder: Path, count: int, seed: int) -> tuple[list[str], list[str]]:
    """Completions as a policy writes them, eight to a problem.

    They are worked solutions. Half end in another problem's answer or in an equal form of their
    own, and one in eight has no box.
    """
    draw = random.Random(seed)
    data = draw.sample(rows(folder, "math_train"), count // 8)
    completions, answers = [], []
    for row in data:
        for member in range(8):
            text = row["solution"]
            other = (
                draw.choice(data)["answer"]
                if member < 4
                else f"{row['answer']}\\,"
                if member == 4
                else row["answer"]
            )
            body = text[: text.rfind("\\boxed")]
            completions.append(body if member == 7 else f"{body}\\boxed{{{other}}}.")
            answers.append(row["answer"])
    return completions, answers


def cpu_seconds(verifier: MathVerifier) -> float:
    """CPU time that its workers have used: what counts where other programs share the cores."""
    times = [
        psutil.Process(w.process.pid).cpu_times()
        for w in verifier.pool.workers
        if w.process is not None
    ]
    return sum(t.user + t.system for t in times)


def speed(folder: Path) -> None:
    """Answers per second once the workers are warm, and what one hanging answer costs the batch."""
    for workers in (1, 2):
        verifier = MathVerifier(workers=workers)
        score(verifier, *ordinary(folder, 256, 9))
        for seed in (1, 2, 3):
            completions, answers = ordinary(folder, 2048, seed)
            start, used = time.perf_counter(), cpu_seconds(verifier)
            verdicts = score(verifier, completions, answers)
            seconds, used = time.perf_counter() - start, cpu_seconds(verifier) - used
            kinds = dict(Counter(str(v.kind) for v in verdicts))
            print(
                f"{workers} workers: 2,048 ordinary completions in {seconds:.2f} s, "
                f"{2048 / seconds:.0f} per second ({2048 / used:.0f} per second of their CPU "
                f"time); {kinds}"
            )
        verifier.close()
        alone = statistics.median(
            hanging(verifier, folder, completions, answers, None)[0] for _ in range(3)
        )
        for place in (0, 1024, 2048):
            tries = [hanging(verifier, folder, completions, answers, place) for _ in range(3)]
            same = all(
                [v.reward for i, v in enumerate(found) if i != place]
                == [v.reward for v in verdicts]
                for _, found in tries
            )
            costs = ", ".join(f"{seconds - alone:.2f}" for seconds, _ in tries)
            print(
                f"  one hanging answer at {place} (limit 5 s): {tries[0][1][place].kind}; "
                f"{alone:.2f} s without it (median of 3); it costs {costs} s; other rewards "
                f"unchanged: {same}"
            )


def hanging(
    verifier: MathVerifier,
    folder: Path,
    completions: list[str],
    answers: list[str],
    place: int | None,
) -> tuple[float, Sequence[Verdict]]:
    """Seconds for a batch with an answer that never ends at ``place``, and the verdicts.

    The workers have not seen the batch.
    """
    score(verifier, *ordinary(folder, 256, 9))
    texts, golds = list(completions), list(answers)
    if place is not None:
        texts.insert(place, BOMB)
        golds.insert(place, "1")
    start = time.perf_counter()
    found = score(verifier, texts, golds)
    seconds = time.perf_counter() - start
    verifier.close()
    return seconds, found


def survive(folder: Path) -> None:
    """Score the hostile corpus at the default limit, mixed with good answers.

    It is watched for processes and sockets, and for the time of the longest answer.
    """
    with TemporaryDirectory() as made:
        corpus = hostile(str(Path(made) / "made"))
        completions = [text for _, bad, _ in corpus for text in (bad, "so \\boxed{7}")]
        answers = [gold for _ in corpus for gold in ("1", "14/2")]
        for extract in ("boxed", "lenient"):
            verifier = MathVerifier(extract=extract)
            score(verifier, ["\\boxed{1}"] * 2, ["1"] * 2)
            start = time.perf_counter()
            with watched() as (waits, seen):
                verdicts = score(verifier, completions, answers)
            seconds = time.perf_counter() - start
            verifier.close()
            good = sum(v.reward for v in verdicts[1::2])
            print(
                f"{extract}: {len(corpus)} hostile completions in {seconds:.0f} s: "
                f"{dict(Counter(str(v.kind) for v in verdicts[::2]))}; {good:.0f} of "
                f"{len(corpus)} good answers keep their reward; the longest answer took "
                f"{max(waits):.2f} s (limit 5 s); files made: {len(os.listdir(made))}; processes "
                f"and sockets beside the workers: {sorted(seen) or 'none'}"
            )


@contextmanager
def watched() -> Iterator[tuple[list[float], set[str]]]:
    """Seconds of each answer of a worker, and unexpected processes.

    The processes are looked for four times a second.
    """
    waits, seen, done, receive = [], set(), threading.Event(), Worker.receive

    def timed(self: Worker, timeout_s: float, spare: bool = True) -> dict[str, Any] | None:
        start = time.perf_counter()
        reply = receive(self, timeout_s, spare)
        if spare:  # an answer, no start of a worker
            waits.append(time.perf_counter() - start)
        return reply

    def look() -> None:
        while not done.wait(0.25):
            seen.update(strangers())

    watcher = threading.Thread(target=look)
    Worker.receive = timed  # type: ignore[method-assign]
    watcher.start()
    try:
        yield waits, seen
    finally:
        done.set()
        watcher.join()
        Worker.receive = receive  # type: ignore[method-assign]
        seen.update(strangers())


def kills(folder: Path) -> None:
    """5,000 answers while a worker is killed about twice a second."""
    completions, answers = (part[:5000] for part in ordinary(folder, 5000, 5))
    verifier = MathVerifier()
    expected = score(verifier, completions, answers)
    verifier.close()
    score(verifier, completions[:8], answers[:8])
    done, draw, killed = threading.Event(), random.Random(0), 0

    def kill() -> None:
        nonlocal killed
        while not done.wait(draw.uniform(0.2, 0.8)):
            process = draw.choice(verifier.pool.workers).process
            if process is not None and process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1

    killer = threading.Thread(target=kill)
    killer.start()
    start = time.perf_counter()
    found = score(verifier, completions, answers)
    done.set()
    killer.join()
    verifier.close()
    changed = sum(one.reward != other.reward for one, other in zip(expected, found, strict=True))
    print(
        f"{len(found)} answers in {time.perf_counter() - start:.1f} s, {killed} workers killed: "
        f"{changed} rewards changed"
    )


SECTIONS: dict[str, Callable[[Path], None]] = {
    "accuracy": accuracy,
    "speed": speed,
    "kills": kills,
    "hostile": survive,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "sections", nargs="*", default=list(SECTIONS), choices=[*SECTIONS, []], metavar="SECTION"
    )
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    for section in arguments.sections:
        print(f"-- {section}")
        SECTIONS[section](arguments.data)
