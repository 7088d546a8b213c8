"""The portable engine: a key-value-cache loop over a transformers model, where vLLM cannot be installed."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from asym_lightning.rollout.base import Sample, Sampling
from asym_lightning.runtime.watch.phases import mark


class TransformersEngine:
    """Samples with ``model.generate`` from a copy of the policy of its own.

    Args:
        path: folder or hub id of the model; its weights are replaced by the first sync.
        dtype: ``float32`` or ``bfloat16``.
        max_num_seqs: completions decoded at once.
    """

    def __init__(self, path: str, dtype: str, max_num_seqs: int, device: str = "cpu", trust_remote_code: bool = False, **_: Any):
        from transformers import AutoModelForCausalLM, GenerationConfig

        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code)
        self.model: Any = model.to(device).eval()
        self.model.generation_config = GenerationConfig()  # a model's own may change the distribution: penalties, min_p and others
        self.model.register_forward_pre_hook(lambda module, inputs: mark())
        self.max_num_seqs, self.version = max_num_seqs, 0

    def sync(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        own = self.model.state_dict()
        seen = set()
        with torch.no_grad():
            for name, tensor in weights:
                own[name].copy_(tensor)
                seen.add(name)
        self.version = version
        missing = {own[n].data_ptr() for n in own} - {own[n].data_ptr() for n in seen}
        if missing:
            raise RuntimeError(f"{len(missing)} tensors of the engine's model were not in the synced weights")

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[list[Sample]]:
        per_call = max(1, self.max_num_seqs // sampling.n)
        result: list[list[Sample]] = []
        for start in range(0, len(prompts), per_call):
            result += self._generate(prompts[start : start + per_call], sampling, seeds[start])
        return result

    def _generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int) -> list[list[Sample]]:
        width = max(map(len, prompts))
        pad = sampling.stop_ids[0]
        device = self.model.device
        ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            out = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=sampling.temperature > 0,
                num_return_sequences=sampling.n,
                max_new_tokens=sampling.max_tokens,
                **({"temperature": sampling.temperature, "top_k": 0, "top_p": 1.0} if sampling.temperature > 0 else {}),
                eos_token_id=list(sampling.stop_ids),
                pad_token_id=pad,
                return_dict_in_generate=True,
                output_logits=True,
            )
        tokens = out.sequences[:, width:]
        logp = torch.stack(
            [
                (step.float() / (sampling.temperature or 1.0)).log_softmax(-1).gather(1, tokens[:, t, None])[:, 0]
                for t, step in enumerate(out.logits)
            ],
            1,
        )
        stops = torch.isin(tokens, torch.tensor(sampling.stop_ids, device=device))
        ended = stops.any(1)
        lengths = torch.where(ended, stops.int().argmax(1) + 1, tokens.shape[1]).tolist()
        samples = [
            Sample(row[:n], lp[:n], not end, self.version)
            for row, lp, n, end in zip(tokens.tolist(), logp.tolist(), lengths, ended.tolist(), strict=True)
        ]
        return [samples[i : i + sampling.n] for i in range(0, len(samples), sampling.n)]

    def close(self) -> None:
        del self.model
