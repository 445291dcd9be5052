"""Refits dropped models layer by layer: base and refitted models side by side, layers streamed from the checkpoint.

On the device are at most a layer of the base, a layer of one plan and the sums of one projection; the layers of other
plans wait on the host, as the states of all samples do. Of each plan every sub-layer from the first dropped one on is
called twice, before and after its projection is solved. The base's are called once for all plans: none of them needs a
state that lies behind the base's, since it is the plan that is farthest behind whose turn it is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from heapq import heapify, heappop, heapreplace

import torch
from transformers import PreTrainedModel

from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.decoder import parts_around_layers
from drop_ray.models.dropped import build_skeleton, drop_lists_of, read_config
from drop_ray.models.families import DropLists
from drop_ray.models.loading import Weights, release
from drop_ray.refit.head import Head
from drop_ray.refit.order import kept_sublayers, parting, refitted_sublayers
from drop_ray.refit.plan_fit import Known, PlanFit
from drop_ray.refit.results import HeldOut, LayerFit, RefitSettings
from drop_ray.refit.streams import Layers, MicroBatch, Stream, Walk
from drop_ray.scoring.inputs import InputRecorder
from drop_ray.scoring.scorer import load_source
from drop_ray.text.progress import ignore_progress


class Refitting:
    """The work on some plans. Layers come first, in each plan's order, then what they achieved."""

    def __init__(self, base: Checkpoint, samples: torch.Tensor, held_out: range, settings: RefitSettings):
        """base: the model whose states are to be reached; samples: token ids, [samples, seq_len]; held_out: those not
        fitted to.
        """
        self._checkpoint, self._samples, self._held_out, self._settings = base, samples, held_out, settings
        self._lacking, self._config = drop_lists_of(base), read_config(base)
        self._base = self._skeleton(self._lacking)
        self._weights = Weights(self._base, base)
        self._last = 2 * self._config.num_hidden_layers
        self.plans: list[PlanFit] = []
        """The plans, in the order in which they were added."""

    def add(self, source: Checkpoint, drops: DropLists, known: Known = lambda _: None) -> PlanFit:
        """A plan to refit. Layers that are known are not done again.

        source: the base, or the same with tensors of other values; drops: all that the refitted model lacks.
        """
        kept = refitted_sublayers(self._config.num_hidden_layers, drops, self._lacking)
        start = parting(kept, drops, self._lacking) if kept else 0
        # A model with other values is another one from its first layer on.
        if kept and source is not self._checkpoint:
            kept, start = list(kept_sublayers(self._config.num_hidden_layers, drops)), 0
        self.plans.append(PlanFit(self._skeleton(drops), source, kept, start, known, self._settings))
        return self.plans[-1]

    @torch.no_grad()
    def layers(self, progress: Callable[[int, int], None] = ignore_progress) -> Iterator[tuple[PlanFit, LayerFit]]:
        """Refit the layers of all plans. `progress` is told (layers done, layers in all).

        Raises NotFiniteError at the first state that is not finite.
        """
        plans = [plan for plan in self.plans if plan.num_layers]
        if not plans:
            return
        total = sum(plan.num_layers for plan in plans)
        with ExitStack() as stack:
            base = Walk(self._enter(), Layers(stack.enter_context(self._base_layers.wave()), 0, self._settings.device))
            work = [plan.work(base.stream, stack) for plan in plans]
            # The place that each plan waits for. Every plan begins with one.
            waiting = [(place, index) for index, steps in enumerate(work) if isinstance(place := next(steps), int)]
            heapify(waiting)
            while waiting:
                place, index = waiting[0]
                base.go_to(place)
                # A layer that is done, or the next place; None at the end.
                while isinstance(step := next(work[index], None), LayerFit):
                    yield plans[index], step
                _ = heappop(waiting) if step is None else heapreplace(waiting, (step, index))
                progress(sum(plan.layers_done for plan in plans), total)
                if waiting and waiting[0][1] != index:
                    plans[index].park()
            base.go_to(self._last)
        self._measure(base.stream, plans)

    def _skeleton(self, drops: DropLists) -> PreTrainedModel:
        return build_skeleton(self._config, drops, self._settings.dtype, self._settings.attn_implementation)

    def _enter(self) -> Stream:
        """The states before layer 0; fills `_base_layers`."""
        device, size = self._settings.device, self._settings.micro_batch
        self._base_layers = load_source(self._base, self._weights, "streamed", device)
        recorder = InputRecorder(self._base)
        batches, states = [], []
        total = len(self._samples)
        for part in (range(self._held_out.start), self._held_out, range(self._held_out.stop, total)):
            for start in range(part.start, part.stop, size):
                chosen = range(start, min(start + size, part.stop))
                inputs = recorder(self._samples[chosen.start : chosen.stop].to(device))
                batches.append(MicroBatch(chosen, part is self._held_out, inputs.keyword_arguments))
                states.append(inputs.hidden.to("cpu"))
        release(module for _, module in parts_around_layers(self._base))
        return Stream(batches, states, device)

    def _measure(self, base: Stream, plans: Sequence[PlanFit]) -> None:
        """Set what the plans achieved on held-out samples."""
        head = Head(self._base, self._weights, self._settings.device)
        expected = base.copy(held_out_only=True)
        for plan in plans:
            streams = [expected, plan.plain, plan.stream.copy(held_out_only=True)]
            for index, batch in enumerate(expected.batches):
                for row, sample in enumerate(batch.samples):
                    states = [stream.states[index][row] for stream in streams]
                    plan.held_out.append(HeldOut(sample, len(states[0]), *head.divergences(states[0], states[1:])))
        head.release()
