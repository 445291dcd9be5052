"""The S3 server of the trial overlay, started as its manifest says."""

import os
import subprocess
import sys
from pathlib import Path

import boto3
from documents import of_kind, pod_templates, render
from served import free_port


def test_the_trials_server_starts_and_makes_the_bucket_that_its_run_stores_in(tmp_path):
    (deployment,) = of_kind(render("cpu"), "Deployment")
    (container,) = pod_templates(deployment)["drop-ray-s3"]["spec"]["containers"]
    (port,) = container["ports"]
    (service,) = of_kind(render("cpu"), "Service")
    assert [each["targetPort"] for each in service["spec"]["ports"]] == [port["name"]]
    here = str(free_port())
    serve, make_bucket = (
        [word.replace(str(port["containerPort"]), here) for word in command]
        for command in (container["command"], container["lifecycle"]["postStart"]["exec"]["command"])
    )
    assert here in serve
    keys = {"AWS_ACCESS_KEY_ID": "trial", "AWS_SECRET_ACCESS_KEY": "trial"}
    environment = {**keys, "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    server = subprocess.Popen(serve, env=environment, stderr=subprocess.DEVNULL)
    try:
        subprocess.run(make_bucket, env=environment, check=True, capture_output=True, timeout=120)
        client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{here}", aws_access_key_id="trial", aws_secret_access_key="trial"
        )
        assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["drop-ray"]
    finally:
        server.kill()
        server.wait()
    stores = [each["data"]["STORE"] for each in of_kind(render("cpu"), "ConfigMap") if "STORE" in each["data"]]
    assert stores == ["s3://drop-ray/trial"]
