"""What is limited: bytes, KV cache, seconds and sub-layers, each a sum over the sub-layers that a model has."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drop_ray.config.hardware import HardwareSpec
from drop_ray.config.limits import RequestSpec
from drop_ray.models.families import DropLists
from drop_ray.models.forward_pass import Step, decode_step, prefill_step
from drop_ray.planning.modules import ATTENTION, MLP, Module, without

if TYPE_CHECKING:
    from drop_ray.models.accounting import ModelSize


@dataclass(frozen=True)
class Resource:
    """What a model takes of one thing, and what dropping each module saves of it."""

    base: float
    """What the model as given takes."""
    undropped: float
    """What it takes in the form that is planned for, such as quantized, before anything is dropped."""
    saved: Mapping[Module, float]
    """What dropping saves, by module; never negative."""

    def left(self, dropped: Collection[Module]) -> float:
        """What the model without the modules takes. Rounded once, so that the order does not show."""
        return math.fsum((self.undropped, *(-self.saved[module] for module in dropped)))


@dataclass(frozen=True)
class Setting:
    """The model that is planned for."""

    size: "ModelSize"
    """Sizes of the base."""
    vocab_size: int
    """Rows of the output layer."""
    base_drops: DropLists
    """Sub-layers that the model as given lacks already."""
    candidates: Sequence[Module]
    """What may be dropped."""
    file_bytes: int
    """Size of the weight files of the model as given, in the run's dtype."""
    layer_bytes: float | None = None
    """Bytes of one weight in the decoder layers, if they are to be quantized."""


def weight_bytes(setting: Setting) -> Resource:
    """Bytes of the weight files. Weights outside of the decoder layers are never quantized.

    A dropped sub-layer saves the bytes of its parameters. It saves its entries in the files' headers too, so that what
    is left is never more than is reckoned here.
    """
    size, width = setting.size, setting.size.bytes_per_parameter
    layer_bytes = setting.layer_bytes or width
    outside = setting.file_bytes - width * (size.kept_parameters(setting.base_drops) - size.outside_parameters)
    return _counted(
        setting,
        setting.file_bytes,
        lambda drops: outside + layer_bytes * (size.kept_parameters(drops) - size.outside_parameters),
    )


def kv_bytes_per_token(setting: Setting) -> Resource:
    """Bytes of KV cache of one more token."""
    of = setting.size.kv_bytes_per_token
    return _counted(setting, of(setting.base_drops), of)


def sub_layers(setting: Setting) -> Resource:
    """Attention layers and MLPs."""

    def of(drops: DropLists) -> float:
        return 2 * setting.size.num_layers - setting.size.layers.absent.count - drops.count

    return _counted(setting, of(setting.base_drops), of)


def request_seconds(setting: Setting, requests: RequestSpec, hardware: HardwareSpec) -> Resource:
    """Seconds of one GPU from the first token of the prompts to the last one generated.

    Each sub-layer is taken to last as long as the longer of moving its bytes and doing its operations, at the part of
    the peak rates that the hardware's efficiencies state (Williams et al., "Roofline", CACM 2009). Sub-layers run one
    after the other, so that their seconds add up. Decoding is taken at its mean context.
    """
    context = requests.prompt + requests.output // 2

    def steps(drops: DropLists, layer_bytes: float | None) -> tuple[Step, Step]:
        size, vocabulary, batch = setting.size, setting.vocab_size, requests.batch
        return (
            prefill_step(size, vocabulary, drops, batch, requests.prompt, layer_bytes),
            decode_step(size, vocabulary, drops, batch, context, layer_bytes),
        )

    def seconds(found: tuple[Step, Step]) -> float:
        prefill, decode = (hardware.seconds(step.flops, step.num_bytes) for step in found)
        return prefill + requests.output * decode

    def kept(layer_bytes: float | None) -> tuple[float, dict[Module, float]]:
        """Seconds of the whole model, and of each of its sub-layers."""
        whole = steps(setting.base_drops, layer_bytes)
        parts = {
            part: seconds(_less(whole, steps(without(setting.base_drops, [part]), layer_bytes)))
            for kind, gone in ((ATTENTION, setting.base_drops.attn), (MLP, setting.base_drops.mlp))
            for part in (Module(kind, layer) for layer in range(setting.size.num_layers) if layer not in gone)
        }
        rest = seconds(steps(without(setting.base_drops, [*parts]), layer_bytes))
        return math.fsum((rest, *parts.values())), parts

    base, parts = kept(None)
    undropped, parts = kept(setting.layer_bytes) if setting.layer_bytes else (base, parts)
    saved = {
        module: math.fsum(parts.get(Module(kind, module.layer), 0.0) for kind in _sublayers(module))
        for module in setting.candidates
    }
    return Resource(base, undropped, saved)


def _less(whole: tuple[Step, Step], rest: tuple[Step, Step]) -> tuple[Step, Step]:
    prefill, decode = (
        Step(one.num_bytes - other.num_bytes, one.flops - other.flops) for one, other in zip(whole, rest, strict=True)
    )
    return prefill, decode


def _sublayers(module: Module) -> tuple[str, ...]:
    return (module.kind,) if module.kind in (ATTENTION, MLP) else (ATTENTION, MLP)


def _counted(setting: Setting, base: float, of: Callable[[DropLists], float]) -> Resource:
    """A resource whose amount is known of any drop lists, and is a sum over sub-layers."""
    undropped = of(setting.base_drops)
    saved = {module: undropped - of(without(setting.base_drops, [module])) for module in setting.candidates}
    return Resource(base, undropped, saved)
