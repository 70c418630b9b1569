"""Storage beyond this machine: what is pushed to a DVC remote is all that a fresh clone needs."""

from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer

from tests.helpers import Shell, StagesRun

pytestmark = pytest.mark.slow

KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def test_clone_from_s3(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell, stages_run: StagesRun
) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        urlopen(Request(f"{endpoint}/bucket", method="PUT")).close()

        shell("dvc remote add --default storage s3://bucket/fashion")
        shell(f"dvc remote modify storage endpointurl {endpoint}")
        shell("git commit -qam 'Storage'")
        shell("dvc push", **KEYS)

        shell(f"git clone -q '{project}' '{tmp_path}/clone'")
        monkeypatch.chdir(tmp_path / "clone")
        shell("dvc pull", **KEYS)
    finally:
        server.stop()
    shell("dvc status -q dvc.yaml")
    assert stages_run(shell("dvc repro")) == []
    assert shell("git status --short") == ""
