"""A config that is refused, with the name of a run that is finished: that run's folder stays as it is."""

import pytest

from drop_ray.errors import UserError
from drop_ray.job.ledger import Ledger
from drop_ray.job.verify import verify
from drop_ray.pipeline import run
from drop_ray.store import Step, open_store


def test_a_refused_config_leaves_the_finished_run_of_its_name_alone(make_config):
    config = make_config(execution={"cpus_per_worker": 1000})
    store = open_store(config.store)
    ledger = Ledger(store, "runs/run")
    ledger.pending("score", {"done long ago": Step("score", {"number": 1})})
    ledger.write()
    store.write_file("runs/run/config.yaml", b"that of the finished run")
    before = {name: store.read_file(f"runs/run/{name}") for name in store.list("runs/run")}
    with pytest.raises(UserError, match=r"execution\.cpus_per_worker: a worker asks for 1000 CPU"):
        run(config)
    assert {name: store.read_file(f"runs/run/{name}") for name in store.list("runs/run") if name != "drivers"} == before
    assert store.list("runs/run/drivers") == []
    assert verify(config).units == 1
