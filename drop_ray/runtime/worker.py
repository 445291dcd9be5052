"""The Ray actor that does shares of work. It knows no stage by name."""

import logging

import ray

from drop_ray.errors import DropRayError
from drop_ray.job.units import Share, UnitFailure
from drop_ray.job.worker import Worker, WorkerSetup
from drop_ray.runtime.logs import WorkerInfo, describe_this_worker
from drop_ray.runtime.metrics import export_outages
from drop_ray.runtime.unit_progress import UnitProgress
from drop_ray.store import Commit


class WorkerActor:
    """One kind of actor does every stage: starting a process and importing libraries takes longer than many units."""

    def __init__(self, setup: WorkerSetup, goes_on: bool):
        """goes_on: whether an error of a share is returned in place of its commits, and not raised."""
        self._setup, self._goes_on = setup, goes_on

    def start(self) -> WorkerInfo:
        """Find the model's files, and check that they are those the driver saw."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
        export_outages(self._setup.run)
        info = describe_this_worker()
        gpus = ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0)
        self._progress = UnitProgress()
        self._worker = Worker(self._setup, info.node, self._progress.part, gpus)
        self._worker.start()
        return info

    def run(self, share: Share) -> list[Commit] | UnitFailure:
        """Do a share, and return its commits."""
        self._worker.begin()
        self._progress.begin(share.name)
        try:
            return share.run(self._worker)
        except DropRayError as error:
            if not self._goes_on:
                raise
            return UnitFailure(str(error))
