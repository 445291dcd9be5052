"""The cluster files of `ray up`, by Ray's own validator, and what it does not look at."""

import logging
import re

import pytest
import yaml
from documents import ROOT

import drop_ray

FILES = sorted(path.name for path in (ROOT / "cluster").glob("ray_up_*.yaml"))
every_file = pytest.mark.parametrize("name", FILES)


def read(name):
    return yaml.safe_load((ROOT / "cluster" / name).read_text())


def prepared(config):
    """The config with Ray's defaults; ValidationError if Ray would refuse it."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(config)
    validate_config(config)
    return config


def test_there_is_one_for_aws_and_one_for_machines_of_ones_own():
    assert {read(name)["provider"]["type"] for name in FILES} == {"aws", "local"}


@every_file
def test_ray_takes_the_file_and_makes_two_workers_of_it(name, caplog):
    caplog.set_level(logging.ERROR)
    config = prepared(read(name))
    assert config["max_workers"] == 2
    assert config["head_node_type"] in config["available_node_types"]


@every_file
def test_rays_validator_refuses_an_unknown_field(name):
    import jsonschema

    with pytest.raises(jsonschema.ValidationError):
        prepared({**read(name), "worker_count": 2})


@every_file
def test_the_nodes_run_the_image_of_this_version_and_install_nothing(name):
    config = prepared(read(name))
    assert config["docker"]["image"].endswith(f"/drop-ray:{drop_ray.__version__}-gpu")
    commands = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    assert [config[command] for command in commands] == [[], [], [], []]


@every_file
def test_token_authentication_is_on_and_the_token_comes_from_the_operators_home(name):
    config = read(name)
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}


@every_file
def test_the_head_does_no_work(name):
    config = read(name)
    head = config.get("available_node_types", {}).get("head", {}).get("resources")
    assert head == {"CPU": 0} or "--num-cpus=0 --num-gpus=0" in config["head_start_ray_commands"][-1]


@every_file
def test_no_secret_is_in_the_file(name):
    text = (ROOT / "cluster" / name).read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|hf_[A-Za-z0-9]{20}|(SECRET|TOKEN|ACCESS_KEY)\w*\s*[=:]", text)
