"""A secret in a config, planted and looked for in every byte that a run leaves anywhere."""

import os
from pathlib import Path

import boto3
import ray
from tiny_run import config_of

from drop_ray.pipeline import run

PLANTED = "planted-5d1f"


def test_a_run_uses_its_credentials_and_leaves_them_nowhere(
    inputs, local_ray, s3_server, s3_url, monkeypatch, caplog, capfd
):
    used = set()

    def watch(moto, environ, start_response):
        used.add(PLANTED in environ.get("HTTP_AUTHORIZATION", "") and environ.get("HTTP_X_AMZ_SECURITY_TOKEN", ""))
        return moto(environ, start_response)

    s3 = boto3.client("s3")
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    s3_server.fault = watch
    options = {
        "endpoint_url": s3_server.url,
        "key": f"{PLANTED}-key",
        "secret": f"{PLANTED}-secret",
        "client_kwargs": {"region_name": "us-east-1", "aws_session_token": f"{PLANTED}-token"},
    }
    with caplog.at_level("DEBUG", logger="drop_ray"):
        run(config_of(inputs, s3_url, evaluation={}, plans=[], execution={"store_options": options}))
    assert used == {f"{PLANTED}-token"}, "every request was signed by the planted key"
    s3_server.fault = None
    bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
    names = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]]
    left = {name: s3.get_object(Bucket=bucket, Key=name)["Body"].read() for name in names}
    assert {f"{prefix}/runs/run/{name}" for name in ("config.yaml", "report.html", "report.md")} < left.keys()
    assert b"secret: '***'" in left[f"{prefix}/runs/run/config.yaml"]
    assert s3_server.url.encode() in left[f"{prefix}/runs/run/config.yaml"]
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    left |= {path: path.read_bytes() for path in logs.rglob("*") if path.is_file()}
    assert any(path.suffix == ".err" for path in left if isinstance(path, Path))
    captured = capfd.readouterr()
    left |= {"log": caplog.text.encode(), "out": captured.out.encode(), "err": captured.err.encode()}
    assert [name for name, data in left.items() if PLANTED.encode() in data] == []
