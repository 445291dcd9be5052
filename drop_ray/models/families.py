"""Which architectures can be dropped, and the two drop lists as every other module passes them."""

from dataclasses import dataclass

from drop_ray.errors import UserError

# `architectures` of a config.json -> its family. Each has a parametrised test of its dropped model's logits.
FAMILIES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
}


@dataclass(frozen=True)
class DropLists:
    """Layers without attention and layers without MLP, sorted; equal lists are equal models."""

    attn: tuple[int, ...] = ()
    mlp: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "attn", tuple(sorted(self.attn)))
        object.__setattr__(self, "mlp", tuple(sorted(self.mlp)))

    @property
    def count(self) -> int:
        """Number of dropped sub-layers; a block counts two."""
        return len(self.attn) + len(self.mlp)

    def union(self, other: "DropLists") -> "DropLists":
        """What is dropped by either."""
        return DropLists(tuple({*self.attn, *other.attn}), tuple({*self.mlp, *other.mlp}))

    def as_identity(self) -> dict[str, list[int]]:
        return {"drop_attn": list(self.attn), "drop_mlp": list(self.mlp)}


def check_drop_lists(drops: DropLists, num_layers: int, source: str) -> None:
    """Raise UserError if a layer is out of range or listed twice; `source` says whose lists they are."""
    for field, layers in (("drop_attn", drops.attn), ("drop_mlp", drops.mlp)):
        outside = [layer for layer in layers if not 0 <= layer < num_layers]
        if outside:
            raise UserError(
                f"{source}: {field} names layer {outside[0]}, but the model has layers 0 to {num_layers - 1}"
            )
        twice = sorted({layer for layer in layers if layers.count(layer) > 1})
        if twice:
            raise UserError(f"{source}: {field} names layer {twice[0]} more than once; list every layer once")


def family_of(architectures: list[str] | None, source: str) -> str:
    """The family of a config.json's `architectures`; UserError if drop_ray does not support it."""
    names = [name.removeprefix("Dropped") for name in architectures or []]
    for name in names:
        if name in FAMILIES:
            return FAMILIES[name]
    raise UserError(
        f"{source}: unsupported architecture {', '.join(architectures or ['(config.json names none)'])}; "
        f"supported: {', '.join(FAMILIES)}"
    )
