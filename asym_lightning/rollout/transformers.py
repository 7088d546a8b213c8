"""The portable engine: transformers' generate with a key-value cache, for machines without vLLM."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from asym_lightning.rollout.base import Sample, Sampling
from asym_lightning.runtime.pretrained import load_model
from asym_lightning.runtime.watch.phases import mark


class TransformersEngine:
    """Samples with ``model.generate`` from its own copy of the policy.

    Args:
        path: folder or hub id of the model; the first sync replaces its weights.
        dtype: ``float32`` or ``bfloat16``.
        max_num_seqs: completions decoded at once.
    """

    takes_checkpoints = False

    def __init__(
        self,
        path: str,
        dtype: str,
        max_num_seqs: int,
        device: str = "cpu",
        trust_remote_code: bool = False,
        **_: Any,
    ):
        from transformers import GenerationConfig

        model = load_model(path, getattr(torch, dtype), trust_remote_code=trust_remote_code)
        self.model: Any = model.to(device).eval()
        # The model's own config may change the distribution: by penalties, min_p and others.
        self.model.generation_config = GenerationConfig()
        self.model.register_forward_pre_hook(lambda module, inputs: mark())
        self.max_num_seqs, self.version = max_num_seqs, 0

    def sync(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        tensors = self.model.state_dict()
        synced = set()
        with torch.no_grad():
            for name, tensor in weights:
                tensors[name].copy_(tensor)
                synced.add(name)
        self.version = version
        # Tied weights share memory; one name of them is enough.
        memory = {tensor.data_ptr() for tensor in tensors.values()}
        missing = memory - {tensors[name].data_ptr() for name in synced}
        if missing:
            raise RuntimeError(
                f"{len(missing)} tensors of the engine's model were not in the synced weights"
            )

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]:
        per_call = max(1, self.max_num_seqs // sampling.n)
        result: list[list[Sample]] = []
        for start in range(0, len(prompts), per_call):
            result += self._generate(prompts[start : start + per_call], sampling, seeds[start])
        return result

    def _generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int
    ) -> list[list[Sample]]:
        """Samples of prompts that are padded on the left and decoded together."""
        width = max(map(len, prompts))
        pad = sampling.stop_ids[0]
        device = self.model.device
        ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        options: dict[str, Any] = {"do_sample": sampling.temperature > 0}
        if sampling.temperature > 0:
            options |= {"temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            out = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                num_return_sequences=sampling.n,
                max_new_tokens=sampling.max_tokens,
                **options,
                eos_token_id=list(sampling.stop_ids),
                pad_token_id=pad,
                return_dict_in_generate=True,
                output_logits=True,
            )
        tokens = out.sequences[:, width:]
        steps = enumerate(out.logits)
        logp = torch.stack([_logp(x, tokens[:, t], sampling.temperature) for t, x in steps], 1)
        stops = torch.isin(tokens, torch.tensor(sampling.stop_ids, device=device))
        ended = stops.any(1)
        lengths = torch.where(ended, stops.int().argmax(1) + 1, tokens.shape[1]).tolist()
        samples = []
        rows = zip(tokens.tolist(), logp.tolist(), lengths, ended.tolist(), strict=True)
        for token_ids, logprobs, n, end in rows:
            samples.append(
                Sample(token_ids[:n], logprobs[:n], truncated=not end, version=self.version)
            )
        return [samples[i : i + sampling.n] for i in range(0, len(samples), sampling.n)]

    def close(self) -> None:
        del self.model


def _logp(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """Log-prob (nats) of one token per row, at the sampling temperature; of greedy ones at 1."""
    log_probs = (logits.float() / (temperature or 1.0)).log_softmax(-1)
    return log_probs.gather(1, tokens[:, None])[:, 0]
