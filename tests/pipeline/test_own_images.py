"""Images of one's own through the whole pipeline, and the way back."""

import re
import shlex
from pathlib import Path

import pytest

from tests.helpers import Shell, StagesRun, write_photos, zip_of
from tests.lib.source.server import serving

pytestmark = pytest.mark.slow


def test_there_and_back(project: Path, shell: Shell, stages_run: StagesRun, tmp_path: Path) -> None:
    """By what is printed alone: a zip from a server, the command proposed, a report, a photo, the way back."""
    content = zip_of(write_photos(tmp_path / "pets", 6), tmp_path / "pets.zip").read_bytes()
    with serving(lambda request: request.reply(200, content)) as address:
        said = shell(f"python -m stages.commands.use_images {address}pets.zip", no_proxy="*")
        command = re.findall(r"dvc exp run \\\n(?:.* \\\n)*.*", said)[0]
        assert set(stages_run(shell(command, no_proxy="*"))) >= {"prepare", "train_model_0", "train_model_2", "compare"}
    assert "Data and pipelines are up to date." in shell("dvc repro")
    shell("python -m stages.commands.report")
    assert "pets" in (page := Path("report.html").read_text())
    assert "Ankle boot" not in page
    photo = shlex.quote(str(tmp_path / "pets/Kleid/0.jpg"))
    assert re.findall(r"^  (\w+)", shell(f"python -m stages.predict --top 1 {photo}"), re.MULTILINE)[0] in said

    shell("git commit -qam Pets")
    shell("git checkout -q HEAD~ -- params.yaml")
    assert not {name for name in stages_run(shell("dvc repro")) if name.startswith("train_")}
    assert shell("git diff --stat HEAD~") == ""
