"""A run and a worker in this process, without Ray: what the stages and the units themselves do."""

from drop_ray.job.job import Job
from drop_ray.job.ledger import Ledger
from drop_ray.job.run_state import RunState
from drop_ray.job.texts import Texts
from drop_ray.job.worker import Worker, WorkerSetup
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.variants import Variant, variant_of
from drop_ray.stages.catalog import stages_until


class NoCluster:
    """Whoever asks it for workers has not been expected to."""

    def __getattr__(self, name):
        raise AssertionError(f"the cluster was asked for {name}")


class LocalCluster:
    """Does all units in this process, one after the other; `names` are those that were done, by stage."""

    def __init__(self, worker, order=lambda shares: shares):
        self.worker, self.order, self.names = worker, order, {}

    def worker_bytes(self, job):
        del job
        return 0

    def prepare(self, job, stage, workers):
        pass

    def send(self, job, stage, shares, workers):
        del job, workers
        for share in self.order(list(shares)):
            self.names.setdefault(stage.name, []).append(share.name)
            yield from share.run(self.worker)


def run_stages(job: Job, until="report", order=lambda shares: shares) -> RunState:
    """A run in this process, from its first stage on; its cluster is in `cluster`."""
    cluster = LocalCluster(start_worker(job), order)
    state = RunState(job, Ledger(job.store, job.run_folder), cluster, Texts(job))
    for entry in stages_until(until):
        entry.load().run(state)
    state.finish()
    return state


def run_state(job: Job, variants=()) -> RunState:
    return RunState(job, Ledger(job.store, job.run_folder), NoCluster(), variants=list(variants))


def variant(job: Job, name, attn=(), mlp=()) -> Variant:
    return variant_of(job.checkpoint.identity, DropPlan(name, attn, mlp))


def start_worker(job: Job, **fields) -> Worker:
    """fields: of its set-up that are not as the job has them."""
    config = job.config
    setup = WorkerSetup(
        **{
            "model": config.model,
            "model_identity": job.checkpoint.identity,
            "model_outline": job.checkpoint.outline,
            "store": job.store,
            "scoring": config.scoring,
            "evaluation": config.evaluation,
            "include_path": job.include_path,
            "threads": 1,
            "wave_bytes": 1 << 20,
            "model_options": config.s3_options(config.model.path),
            **fields,
        }
    )
    worker = Worker(setup, "this-node", lambda what, *part: lambda done, total: None)
    worker.start()
    return worker
