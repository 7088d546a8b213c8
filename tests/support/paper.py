"""The paper's experiments."""

# Name -> number of parameters of the published weights.
EXPERIMENTS = {
    "paper_qwen3_4b": 4_022_468_096,
    "paper_qwen2_5_math_1_5b": 1_543_714_304,
}
