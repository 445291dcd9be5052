"""A refit in a worker: lost in the middle and taken up by another, on S3 as in a folder, then read as a patch."""

from dataclasses import replace
from types import SimpleNamespace

import local_run
import pytest
import tiny_models
import tiny_run
import torch

from drop_ray.errors import UserError
from drop_ray.job.artifacts import PATCH
from drop_ray.job.opening import open_job
from drop_ray.job.refit_section import REFIT
from drop_ray.models.loading import load_model
from drop_ray.planning.refit import layer_step
from drop_ray.refit.patch import PatchTensors
from drop_ray.stages.refit import STAGE
from drop_ray.stages.refit_units import RefitUnit

IDS = tiny_models.token_ids(20, 32)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return tiny_run.write_inputs(tmp_path_factory.mktemp("inputs"))


def unit_on(inputs, store, attn=(2,), mlp=()):
    job = open_job(tiny_run.config_of(inputs, store, tasks=[], refit=[{"ridge": 0.1, "held_out": 4}]))
    plan = local_run.variant(job, "by-hand", attn, mlp)
    (variant,) = REFIT.variants(job, job.base_variant, [plan])
    change = variant.changes[-1]
    step = change.step(variant.base, plan.identity())
    return job, RefitUnit(variant.name, step, "refit", variant, change, IDS)


class LostError(Exception):
    """The worker is no more."""


def lose_after(worker, commits):
    """Have a worker end with its next commit after so many."""
    commit, left = worker.commit, iter(range(commits))

    def count(*arguments):
        if next(left, None) is None:
            raise LostError
        return commit(*arguments)

    worker.commit = count
    return worker


def test_what_one_worker_lost_another_takes_up_and_both_stores_have_the_same_bytes(inputs, tmp_path, s3_url):
    local, unit = unit_on(inputs, tmp_path / "store")
    whole = unit.run(local_run.start_worker(local))[0]
    assert whole.provenance["measured"]["layers_found"] == 0

    remote, same = unit_on(inputs, s3_url)
    with pytest.raises(LostError):
        same.run(lose_after(local_run.start_worker(remote), 1))
    first = layer_step(unit.step, 1)
    assert remote.store.find(first) is not None
    assert remote.store.find(layer_step(unit.step, 2)) is None
    worker = local_run.start_worker(remote, cache_dir=str(tmp_path / "cache"))
    taken_up = same.run(worker)[0]
    assert taken_up.provenance["measured"]["layers_found"] == 1
    assert taken_up.outputs == whole.outputs
    assert remote.store.find(first) is None

    made = replace(same.variant, changes=(*same.variant.changes[:-1], replace(same.change, made=taken_up)))
    refitted = tiny_models.logits_of(worker.load(made, None), IDS[:2])
    source = local_run.start_worker(local).source(
        replace(made, changes=(*made.changes[:-1], replace(unit.change, made=whole)))
    )
    assert torch.equal(tiny_models.logits_of(load_model(source, made.drops, dtype=torch.float32), IDS[:2]), refitted)
    patch = PatchTensors(local.store.local_path(whole, PATCH))
    name = "model.layers.1.mlp.down_proj.weight"
    assert patch.edits(name)
    assert not patch.edits("model.layers.0.mlp.down_proj.weight")
    assert torch.equal(source.read([name])[name], patch.edit(name, None))


def test_a_layer_whose_bytes_were_damaged_is_done_again(inputs, tmp_path):
    job, unit = unit_on(inputs, tmp_path / "store")
    with pytest.raises(LostError):
        unit.run(lose_after(local_run.start_worker(job), 1))
    part = job.store.find(layer_step(unit.step, 1))
    (file,) = (job.store.local_path(part, "layer")).iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    done = unit.run(local_run.start_worker(job))[0]
    assert done.provenance["measured"]["layers_found"] == 0
    whole = unit_on(inputs, tmp_path / "other")[1]
    assert whole.run(local_run.start_worker(unit_on(inputs, tmp_path / "other")[0]))[0].outputs == done.outputs


def test_a_plan_that_leaves_nothing_to_fit_is_refused(inputs, tmp_path):
    job, unit = unit_on(inputs, tmp_path / "store", (0, 1, 2, 3), (0, 1, 2, 3))
    with pytest.raises(UserError, match="by-hand has no output projection left"):
        unit.run(local_run.start_worker(job))


@pytest.mark.parametrize(
    ("workers", "wave_bytes", "sizes"),
    [
        (1, 2**32, [3, 2]),  # one share for each line of the config
        (2, 2**32, [2, 1, 1, 1]),
        (8, 2**32, [1] * 5),
        (1, 3 * 20 * 32 * 32 * 4, [2, 1, 2]),  # the states of three models: the base and two plans
        (1, 1, [1] * 5),
    ],
)
def test_plans_of_a_line_are_done_together_by_as_few_as_leave_every_worker_some(
    inputs, tmp_path, workers, wave_bytes, sizes
):
    lines = [{"name": "one", "ridge": 0.1, "held_out": 4}, {"name": "two", "ridge": 1.0, "held_out": 4}]
    config = tiny_run.config_of(inputs, tmp_path / "store", tasks=[], refit=lines)
    config = config.model_copy(
        update={"execution": config.execution.model_copy(update={"num_workers": workers, "wave_bytes": wave_bytes})}
    )
    job = open_job(config)
    plans = [local_run.variant(job, f"by-hand-{layer}", (layer,), ()) for layer in (0, 1, 2)]
    variants = [*REFIT.variants(job, job.base_variant, plans)]
    units = [
        RefitUnit(one.name, one.changes[-1].step(one.base, one.before.identity()), "refit", one, one.changes[-1])
        for one in variants
    ]
    shares = STAGE.shares(SimpleNamespace(job=job), units[:5])
    assert [len(share.units) for share in shares] == sizes
    assert sorted(step.path for share in shares for step in share.steps) == sorted(unit.step.path for unit in units[:5])
    assert all(len({unit.change for unit in share.units}) == 1 for share in shares)
