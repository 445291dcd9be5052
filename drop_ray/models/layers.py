"""What the decoder layers of a model consist of, and what of it must stay: what planning knows of a model."""

from collections.abc import Iterator
from dataclasses import dataclass

from drop_ray.errors import UserError
from drop_ray.models.families import DropLists
from drop_ray.text.layer_ranges import layer_ranges


@dataclass(frozen=True)
class Layers:
    """The decoder layers of a base model."""

    count: int
    """Number of layers."""
    absent: DropLists = DropLists()
    """The sub-layers that the family's layers do not have: some have a token mixer only, some an MLP only."""
    needed: tuple[int, ...] = ()
    """Layers whose attention must stay, because later layers read its keys and values."""
    kinds: tuple[str, ...] = ()
    """The kind of each layer's token mixer, as `full_attention`, and "" where it has none; empty if not known."""
    attending: tuple[int, ...] = ()
    """Layers whose mixer looks at each token, and so counts those of a cache; linear attention does not."""

    @property
    def mixer_kinds(self) -> tuple[str, ...]:
        """The kinds of mixers that there are, in the order of the layers."""
        return tuple(dict.fromkeys(filter(None, self.kinds)))

    @property
    def mixers(self) -> dict[str, tuple[int, ...]]:
        """The layers of each kind of mixer."""
        return {kind: tuple(layer for layer, own in enumerate(self.kinds) if own == kind) for kind in self.mixer_kinds}

    @property
    def stays(self) -> Iterator[str]:
        """What cannot be dropped and why, a sentence for each reason; nothing for most models."""
        if self.absent.attn:
            yield f"{_layers(self.absent.attn)} no token mixer"
        if self.absent.mlp:
            yield f"{_layers(self.absent.mlp)} no MLP"
        if self.needed:
            whose = "their" if len(self.needed) > 1 else "its"
            yield f"the attention of {named(self.needed)} stays: later layers read {whose} keys and values"

    def check(self, drops: DropLists, source: str) -> None:
        """UserError, which begins with `source`, with the reason for a sub-layer of `drops` that cannot be dropped."""
        for field, layers, missing, what in (
            ("drop_attn", drops.attn, self.absent.attn, "token mixer"),
            ("drop_mlp", drops.mlp, self.absent.mlp, "MLP"),
        ):
            for layer in layers:
                if layer in missing:
                    raise UserError(f"{source}: {field} names layer {layer}, which has no {what}; leave it out")
        for layer in drops.attn:
            if layer in self.needed:
                raise UserError(
                    f"{source}: drop_attn names layer {layer}, whose keys and values later layers read; leave it out"
                )


def named(layers: tuple[int, ...]) -> str:
    """`layer 3`, or `layers 3,5-7`."""
    return f"layer{'s' if len(layers) > 1 else ''} {layer_ranges(layers)}"


def _layers(layers: tuple[int, ...]) -> str:
    return f"{named(layers)} {'have' if len(layers) > 1 else 'has'}"
