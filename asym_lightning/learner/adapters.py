"""Low-rank adapters (LoRA, arXiv 2106.09685) through peft: they learn in place of the weights, and travel merged into them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from asym_lightning.types import ConfigError

_ADAPTER = "default"


@dataclass(frozen=True)
class LoRASettings:
    """``r`` and ``alpha`` as in the paper: a weight W becomes W + alpha / r * B A, B starts at 0. ``target_modules``: the ends of the
    names of the linear layers that get one, or ``all-linear`` for all but the output head. There is no dropout: it would make the
    log-prob of a token another one each time it is scored.

    Raises:
        ConfigError: r < 1, alpha <= 0, or names that are none.
    """

    r: int
    alpha: float
    target_modules: str | list[str] = "all-linear"

    def __post_init__(self) -> None:
        if self.r < 1 or self.alpha <= 0:
            raise ConfigError(f"policy.lora: r={self.r} must be at least 1 and alpha={self.alpha} above 0")
        names = [self.target_modules] if isinstance(self.target_modules, str) else self.target_modules
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"policy.lora.target_modules={self.target_modules}: must be all-linear, or names such as [q_proj,v_proj]")


def add_adapters(model: Any, settings: LoRASettings) -> None:
    """Put adapters into ``model`` and freeze everything else.

    Raises:
        ConfigError: no layer has one of the names.
    """
    from peft import LoraConfig, inject_adapter_in_model

    targets = settings.target_modules
    try:
        inject_adapter_in_model(LoraConfig(r=settings.r, lora_alpha=settings.alpha, target_modules=targets), model)  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(f"policy.lora.target_modules={targets}: {str(error).splitlines()[0]}") from None
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def adapted(model: nn.Module) -> bool:
    """Whether ``model`` has adapters."""
    return any(hasattr(module, "base_layer") for module in model.modules())


def merged(model: nn.Module, present: Callable[[Sequence[Tensor]], AbstractContextManager] = nullcontext) -> Iterator[tuple[str, Tensor]]:
    """Name and value of every entry of the state dict as it would be without adapters, what they add included; a tensor of several
    names comes once. ``present`` makes tensors whole that are not, for as long as one is in use."""
    layers: dict[str, Any] = {name: module for name, module in model.named_modules() if hasattr(module, "base_layer")}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen or ".lora_" in name:
            continue
        seen.add(id(tensor))
        owner, _, rest = name.partition(".base_layer.")
        added = owner in layers and rest == "weight"
        with present([tensor, *(layers[owner].parameters() if added else ())]):
            if added:
                yield f"{owner}.weight", tensor.detach() + layers[owner].get_delta_weight(_ADAPTER).detach()
            else:
                yield f"{owner}.{rest}" if owner in layers else name, tensor.detach()


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """The model as it was before it learned."""
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "base_layer")]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
