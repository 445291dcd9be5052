"""A cluster that does units in this process, one after the other, in an order of the test's choice."""

from local_run import start_worker

from drop_ray.job.ledger import Ledger
from drop_ray.job.run_state import RunState


class HereCluster:
    def __init__(self, job, order=lambda shares: shares):
        self.worker, self.order = start_worker(job), order
        self.sent = []
        self.requests = []

    def prepare(self, job, stage, workers):
        self.requests.append(workers)

    def send(self, job, stage, shares, workers):
        for share in self.order(list(shares)):
            self.sent.append(share.name)
            yield from share.run(self.worker)


def run_here(job, variants=(), **cluster):
    return RunState(job, Ledger(job.store, job.run_folder), HereCluster(job, **cluster), variants=list(variants))
