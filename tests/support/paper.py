"""The paper's experiments."""

EXPERIMENTS = {"paper_qwen3_4b": 4_022_468_096, "paper_qwen2_5_math_1_5b": 1_543_714_304}  # parameters of the published weights
