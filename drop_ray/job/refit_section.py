"""The section `refit` of the config: what each line makes of a plan, and what is refused before any work."""

from collections.abc import Iterator, Sequence

import torch

from drop_ray.config import RefitSpec, RunConfig, refit_field
from drop_ray.errors import UserError
from drop_ray.job.change_sections import ChangeSection, text_identity
from drop_ray.job.job import Job
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import build_skeleton, drop_lists_of, read_config
from drop_ray.planning.changes import Change
from drop_ray.planning.plans import BASE
from drop_ray.planning.refit import Refit
from drop_ray.planning.variants import Variant
from drop_ray.refit.checks import check_refittable, widest_projection

TOKENS_PER_INPUT = 4
"""Fewer tokens for each input of a projection than this fit the samples, and not the text that they are of."""


class RefitSection(ChangeSection):
    """Fitting what is left of every plan anew."""

    field = "refit"
    is_exported = True

    def lines(self, config: RunConfig) -> Sequence[RefitSpec]:
        return config.refit

    def check(self, config: RunConfig, checkpoint: Checkpoint) -> None:
        if not config.refit:
            return
        skeleton = build_skeleton(read_config(checkpoint), drop_lists_of(checkpoint), torch.bfloat16, "eager")
        check_refittable(skeleton)
        inputs = widest_projection(skeleton)
        for spec in config.refit:
            if BASE in spec.plans:
                raise UserError(f"refit ({spec.label}).plans: the base drops nothing; name plans")
            _check_tokens(config, spec, inputs)

    def changes(self, job: Job) -> Sequence[Change]:
        settings = {
            **job.config.model.model_dump(include={"dtype", "attn_implementation"}),
            "micro_batch": job.config.scoring.micro_batch,
        }
        return [
            Refit(spec, settings, text_identity(job, spec.text, refit_field(spec.label)))
            for spec in self.lines(job.config)
        ]

    def names(self, config: RunConfig, variants: Sequence[str]) -> list[str]:
        return super().names(config, [name for name in variants if name != BASE])

    def variants(self, job: Job, base: Variant, plans: Sequence[Variant]) -> Iterator[Variant]:
        """Every plan that the config names, by each line. What drops nothing has nothing to make up for."""
        for variant in super().variants(job, base, plans):
            if variant.undecided or variant.drops != base.drops:
                yield variant

    def line(self, job: Job, on: str) -> Change:
        """The change of the line that a plan's `on` names; `refitted` is the first, where no line is called so."""
        labels = [spec.label for spec in self.lines(job.config)]
        return job.changes[self.field][labels.index(on) if on in labels else 0]


REFIT = RefitSection()


def _check_tokens(config: RunConfig, spec: RefitSpec, inputs: int) -> None:
    """UserError for too few tokens: on the demo, choosing the ridge by held-out samples did not mend that."""
    text = spec.text or config.calibration
    fitted, held_out = spec.split(text.num_samples)
    wanted = TOKENS_PER_INPUT * inputs
    if len(fitted) * text.seq_len >= wanted:
        return
    needed = -(-wanted // text.seq_len)
    where = f"refit ({spec.label})"
    place = f"{where}.text.num_samples" if spec.text else "calibration.num_samples"
    remedy = f"set {place} to {needed + len(held_out)} or more"
    if spec.num_samples is not None and spec.num_samples < needed:
        remedy = f"set {where}.num_samples to {needed} or more, and {place} to {needed + len(held_out)}"
    raise UserError(
        f"{where}: {len(fitted)} samples of {text.seq_len} tokens are fewer than {TOKENS_PER_INPUT} tokens for each of "
        f"the {inputs} inputs of the widest projection, and would make the model worse; {remedy}"
    )
