"""The forward pass of a micro-batch through the decoder of a transformers model."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from asym_lightning.learner.attention import Layout
from asym_lightning.learner.batch import PackedBatch


def last_hidden_states(decoder: Any, batch: PackedBatch, packed: bool) -> Float[Tensor, "s d"]:
    """Return the last layer's output at every token, in the batch's order.

    Args:
        packed: the model attends by layout, so that all sequences are one row. Otherwise each
            sequence is a row of its own, padded on the right: a model whose layers carry a state
            from token to token, or compute positions by themselves, must not see several in a row.
    """
    if packed:
        return decoder(
            input_ids=batch.input_ids[None],
            position_ids=batch.position_ids[None],
            use_cache=False,
            layout=batch.layout,
        ).last_hidden_state[0]
    assert batch.layout is not None
    index, real = padded_rows(batch.layout)
    output = decoder(input_ids=batch.input_ids[index], attention_mask=real.long(), use_cache=False)
    return output.last_hidden_state[real]


def padded_rows(layout: Layout) -> tuple[Int[Tensor, "rows width"], Tensor]:
    """Return the token at each place of padded rows, one per segment, and which places are real.

    Segments have no shared prompts. A place that is padding repeats the batch's first token.
    """
    lengths = torch.tensor([segment.length for segment in layout.segments])
    starts = torch.tensor([segment.start for segment in layout.segments])
    column = torch.arange(int(lengths.max()))
    real = column < lengths[:, None]
    index = torch.where(real, starts[:, None] + column, 0)
    return index.to(layout.device), real.to(layout.device)
