"""Low-rank adapters (LoRA, arXiv 2106.09685) through peft.

They learn in place of the weights, and are merged into them wherever weights leave the policy.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from asym_lightning.checks import Count, Positive, validated
from asym_lightning.types import FieldError

# The name that peft gives an adapter by default.
_ADAPTER = "default"


@validated
@dataclass(frozen=True)
class LoRASettings:
    """LoRA as in the paper: a weight W becomes W + alpha / r * B A, and B starts at 0.

    There is no dropout: it would change a token's log-prob each time it is scored.

    Args:
        target_modules: the ends of the names of the linear layers that get an adapter, or
            ``all-linear`` for all but the output head.

    Raises:
        FieldError: r < 1, alpha <= 0, or ``target_modules`` is neither of the two.
    """

    r: Count
    alpha: Positive
    target_modules: Annotated[
        str | Annotated[list[str], Field(min_length=1)],
        Field(description="all-linear, or names such as [q_proj,v_proj]"),
    ] = "all-linear"


def add_adapters(model: Any, settings: LoRASettings) -> None:
    """Put adapters into ``model`` and freeze everything else.

    Raises:
        FieldError: no layer has one of the names.
    """
    from peft import LoraConfig, inject_adapter_in_model

    targets = settings.target_modules
    alpha: Any = settings.alpha  # peft declares an int
    config = LoraConfig(r=settings.r, lora_alpha=alpha, target_modules=targets)
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise FieldError(f"target_modules={targets}: {reason}") from None
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def has_adapters(model: nn.Module) -> bool:
    """Whether ``model`` has adapters."""
    return any(hasattr(module, "base_layer") for module in model.modules())


def merged_state_dict(
    model: nn.Module, gathered: Callable[[Sequence[Tensor]], AbstractContextManager] = nullcontext
) -> Iterator[tuple[str, Tensor]]:
    """Yield name and value of every weight, adapters merged, under its name without adapters.

    A tensor with several names comes once, under the first.

    Args:
        gathered: given the tensors of an entry, returns a context in which they are complete; for
            weights that are divided among ranks.
    """
    layers: dict[str, Any] = {
        name: module for name, module in model.named_modules() if hasattr(module, "base_layer")
    }
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen or ".lora_" in name:
            continue
        seen.add(id(tensor))
        owner, _, rest = name.partition(".base_layer.")
        is_merged = owner in layers and rest == "weight"
        with gathered([tensor, *(layers[owner].parameters() if is_merged else ())]):
            if is_merged:
                delta = layers[owner].get_delta_weight(_ADAPTER).detach()
                yield f"{owner}.weight", tensor.detach() + delta
            else:
                yield f"{owner}.{rest}" if owner in layers else name, tensor.detach()


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Switch the adapters off within the context: the model is as it was before training."""
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "base_layer")]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
