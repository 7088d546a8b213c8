"""The command line as a process: help, refusals, a folder in use."""

from pathlib import Path

from tests.support import ROOT, preloaded


def test_the_command_itself(tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int | None, str]:
        process = preloaded.command([str(ROOT / "train.py"), *arguments], cwd=tmp_path)
        return process.wait(100), process.output

    status, shown = run("--help")
    assert status == 0 and "name: asymgrpo" in shown and "group_size: 8" in shown
    lines = (
        "sweep: entropy_coefficients, exponents",
        "logger: csv, default, mlflow, wandb",
        "hydra/launcher=",
    )
    assert all(line in shown for line in lines)
    assert run("algo.advantage.beta_neg=-0.4") == (
        2,
        "error: algo.advantage.beta_neg=-0.4: must be a finite number >= 0\n",
    )
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "metrics.csv").write_text("step\n")
    status, said = run("hydra.run.dir=old")
    assert status == 2 and "another run is in there" in said
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "metrics.csv"]
