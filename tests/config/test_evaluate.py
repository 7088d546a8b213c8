"""Settings that evaluate.py refuses."""

import re
from pathlib import Path

import pytest

from tests.support.evaluations import refused

BAD = {
    "samples=0": r"samples=0: must be a whole number",
    "temperature=0": r"temperature=0 is greedy: all 4 samples would be the same; use samples=1",
    "samples={parity:2}": r"samples has no number for amc23",
    "benchmarks.amc23.path=none.jsonl": r"benchmarks\.amc23\.path=none\.jsonl is no file",
    "policy.path=none.ckpt": r"policy\.path=none\.ckpt: there is no such checkpoint",
    "policy.path=./nowhere": r"there is no such folder",
    "rollout.dtype=int8": r"rollout\.dtype=int8: must be one of auto",
    "devices=0": r"devices=0: must be a whole number",
    "accelerator=cqu": r"accelerator=cqu: must be one of auto, cpu",
    "policy.trust_remote_code=x": r"policy\.trust_remote_code=x: must be true or false",
    "rollout.enforce_eager=on_": r"rollout\.enforce_eager=on_: must be true or false",
    "data.max_prompt_tokens=x": r"data\.max_prompt_tokens=x: must be a whole number",
    "sample=3": r"did you mean 'samples'",
    "rollout.max_tokens=100000": r"every prompt is too long",
}


@pytest.mark.parametrize("given", BAD)
def test_bad_settings(
    given: str,
    benchmark_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refused(capsys, monkeypatch, benchmark_folder, tmp_path / "run", given)
    assert re.search(BAD[given], line), line
    assert not (tmp_path / "run").exists()
