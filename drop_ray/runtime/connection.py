"""Joining the Ray cluster at RAY_ADDRESS, or starting Ray on this machine."""

import logging
import os
from typing import Any

import ray
from ray.exceptions import RayError

from drop_ray.errors import UserError
from drop_ray.text.faults import with_cause

logger = logging.getLogger(__name__)
ADDRESS = "RAY_ADDRESS"


def join_or_start(num_cpus: int, **options: Any) -> None:
    """Connect to Ray. num_cpus: what is asked of it in all; options: further ones of `ray.init`."""
    options = {"log_to_driver": False, "logging_level": logging.ERROR, **options}
    if ADDRESS in os.environ:
        address = os.environ[ADDRESS]
        if address.startswith(("http://", "https://")):
            raise UserError(
                f"RAY_ADDRESS: {address} is the address of a dashboard, to which `drop-ray submit --address` gives "
                "jobs; a cluster that this process is to join is HEAD:6379, or ray://HEAD:10001; unset it to start Ray "
                "here"
            )
        logger.info("joining the Ray cluster at %s", address)
        try:
            ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError, OSError, RayError) as error:
            raise UserError(
                f"RAY_ADDRESS: no Ray cluster answers at {address} ({with_cause(error)}); start it, or unset "
                "RAY_ADDRESS to start Ray here"
            ) from error
        return
    # Always "local": otherwise Ray would follow a stale address file of an earlier cluster. It is told of as many CPUs
    # as are asked for, so that all share those of a small machine.
    num_cpus = max(os.cpu_count() or 1, num_cpus)
    logger.info("starting Ray on this machine with %d CPUs", num_cpus)
    ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, **options)
