"""`drop-ray run --dry-run --price`: what the GPUs cost, whatever the config says of a price."""

import pytest
import yaml
from tiny_run import config_values, write_inputs

from drop_ray.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("priced"))


@pytest.fixture
def config(folder, tmp_path):
    """Writes the tiny run's config with an execution section."""

    def write(**execution):
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(config_values(folder, tmp_path / "store", execution=execution)))
        return str(path)

    return write


@pytest.mark.parametrize("hardware", ["h100", {"gpu": "h100", "price_per_gpu_hour": 7}])
def test_the_price_given_is_the_one_that_counts(config, hardware, capsys):
    path = config(gpus_per_worker=1, num_workers=2, hardware=hardware)
    assert main(["run", path, "--dry-run", "--price", "2.5"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].strip().startswith("costs are of 2 GPUs all along, at 2.5 per")


def test_a_price_without_gpus_or_without_a_forecast_is_refused(config, capsys):
    assert main(["run", config(gpus_per_worker=1), "--dry-run", "--price", "3"]) == 2
    assert "--price: execution.hardware is not stated" in capsys.readouterr().err
    assert main(["run", config(gpus_per_worker=1, hardware="h100"), "--price", "3"]) == 2
    assert "--price: a price is for the forecast of --dry-run" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "three"])
def test_a_price_is_a_number_above_0(config, text):
    with pytest.raises(SystemExit) as caught:
        main(["run", config(), "--dry-run", f"--price={text}"])
    assert caught.value.code == 2
