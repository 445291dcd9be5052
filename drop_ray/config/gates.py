"""`evaluation.gates`: what a model must still be able to do, whatever the tasks say."""

from pydantic import Field

from drop_ray.config.section import Section


class GatesConfig(Section):
    """Tests that are made from a seed and the model's own tokens, and compared with the base's results."""

    seed: int = Field(0, description="seed that the tests are made from")
    num_items: int = Field(32, ge=8, description="items of each test")
    needle_lengths: tuple[int, ...] = Field(
        (1024, 4096, 16384, 32768),
        description="tokens of the texts in which a needle is recalled; those beyond the model's positions are skipped",
    )
    generated_tokens: int = Field(256, ge=16, description="tokens of each free generation")
    tolerance: float = Field(0.1, gt=0, lt=1, description="loss of accuracy from which on a plan is a regression")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="confidence with which the loss is known")
    cliffs: tuple[str, ...] = Field(
        (), description="strategies of which the largest number of drops that passes is sought, by bisection"
    )
