"""A cluster that does shares in this process and keeps them, and a change of a tensor, for tests of comparisons."""

from local_run import start_worker

from drop_ray.planning.changes import TensorEdit


class Scale(TensorEdit):
    """Multiplies a tensor."""

    kind = "scale"
    label = "scaled"

    def __init__(self, tensor, factor):
        object.__setattr__(self, "tensor", tensor)
        object.__setattr__(self, "factor", factor)

    def identity(self):
        return {"tensor": self.tensor, "factor": str(self.factor)}

    def edits(self, name):
        return name == self.tensor

    def edit(self, name, tensor):
        return tensor * self.factor


class InProcess:
    """A cluster that does shares in this process."""

    def __init__(self, memory=1 << 40, **setup):
        self.memory, self.setup, self.shares = memory, setup, []

    def worker_bytes(self, job):
        return self.memory

    def prepare(self, job, stage, workers):
        self.pool = workers.pool

    def send(self, job, stage, shares, workers):
        self.shares = list(shares)
        worker = start_worker(job, **self.setup)
        for share in shares:
            yield from share.run(worker)
