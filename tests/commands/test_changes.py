"""The report for a pull request: what changed between two commits, read as Markdown, in a clone without data."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.lib.base.files import read_json, write_csv, write_json
from stages.lib.results.statistics import wilson_interval
from tests.helpers import RunStage, StageRefusal, set_keys

ADDRESS = "https://github.com/somebody/project"
IMAGES = 1_000
HOSTILE = "x | <img src=a> `b` @somebody https://example.org"
Markdown = Callable[..., str]


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", *author, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, message: str) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")


def write_results(folder: Path, correct: dict[str, int], best: str) -> None:
    """Write what the stages leave in git, for models with so many correct answers out of a thousand."""
    models: dict[str, Any] = {}
    for name, right in correct.items():
        low, high = wilson_interval(right, IMAGES)
        accuracies = {"accuracy": right / 10, "accuracy_low": low, "accuracy_high": high}
        models[name] = {"architecture": "MLP", **accuracies, "loss": 1 - right / IMAGES}
        write_json(folder / f"metrics/eval/{name}.json", {"correct": right, "images": IMAGES})
    comparison = {"source": "fashion-mnist", "by": "accuracy", "chosen_on": "test", "best": best, "models": models}
    write_json(folder / "metrics/compare.json", comparison | {"pairs": []})
    write_json(folder / "metrics/best.json", {"model": best})
    write_json(folder / "metrics/data.json", {"source": "fashion-mnist", "sha256": {"train": "3aede38d"}})
    answers = [("Bag", "Bag" if image < correct[best] else "Coat") for image in range(IMAGES)]
    write_csv(folder / "plots/confusion.csv", ["actual", "predicted"], answers)
    for picture in ("curves", "confusion"):
        (folder / f"plots/{picture}.png").write_text(f"{picture} {correct}")


@pytest.fixture
def base(workspace: Path) -> str:
    """The first of two commits: in the second model_1 learns slower and is worse, model_2 is the same."""
    git(workspace, "init", "--quiet", "--initial-branch=main")
    write_results(workspace, {"model_1": 750, "model_2": 880}, "model_2")
    first = commit(workspace, "Results")
    set_keys(workspace / "params.yaml", {"model_1.lr": 0.05})
    write_results(workspace, {"model_1": 670, "model_2": 880}, "model_2")
    (workspace / "plots/confusion.png").write_text("the same in both")
    commit(workspace, "model_1 learns slower")
    return first


@pytest.fixture
def markdown(base: str, run_stage: RunStage) -> Markdown:
    """`markdown()` gives what the command prints about the two commits."""

    def run(*options: str) -> str:
        done = run_stage("commands.report", "--markdown", base, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def rows(text: str) -> list[list[str]]:
    """The cells of all lines of tables."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in line[1:-1].split("|")] for line in lines]


def row(text: str, name: str) -> list[str]:
    (found,) = [cells for cells in rows(text) if cells[0] == name]
    return found


def test_signed_commit(workspace: Path, markdown: Markdown) -> None:
    """git can be set to print what it thinks of a signature above all else that it says of a commit."""
    signs = workspace / "gpg"
    signs.write_text("#!/bin/sh\ncat >/dev/null\necho SIGNATURE\nprintf '\\n[GNUPG:] SIG_CREATED \\n' >&2\n")
    signs.chmod(0o755)
    git(workspace, "config", "gpg.program", str(signs))
    git(workspace, "config", "log.showSignature", "true")
    git(workspace, "commit", "--quiet", "--allow-empty", "--gpg-sign", "--message", "Signed")
    assert f"`{git(workspace, 'rev-parse', 'HEAD')[:7]}` `Signed`" in markdown()


def test_git_sent_to_another_repository(
    markdown: Markdown, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hooks and users set GIT_DIR; the folder is what counts."""
    before, other = markdown(), tmp_path_factory.mktemp("other")
    git(other, "init", "--quiet")
    git(other, "commit", "--quiet", "--allow-empty", "--message", "Of another project")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert markdown() == before


class TestTwoCommits:
    def test_parameter(self, markdown: Markdown) -> None:
        assert row(markdown(), "model_1.lr") == ["model_1.lr", "0.1", "0.05"]

    def test_figures_and_verdict(self, markdown: Markdown) -> None:
        _, before, now, change, *losses, verdict = row(markdown(), "model_1")
        assert (before, now) == ("75.00 (72.22 to 77.58)", "67.00 (64.03 to 69.84)")
        assert change == "-8.00 (-11.94 to -4.03)"
        assert (losses, verdict) == (["0.2500", "0.3300"], "worse")

    def test_model_that_stayed(self, markdown: Markdown) -> None:
        assert row(markdown(), "model_2")[-1] == "the same"

    def test_every_metric_folded(self, markdown: Markdown) -> None:
        folded = markdown().split("<details>")[-1]
        assert ["metrics/eval/model_1.json", "correct", "750", "670", "-80"] in rows(folded)
        assert "model_2" not in folded

    def test_pictures_of_both_commits(self, base: str, workspace: Path, markdown: Markdown) -> None:
        text = markdown("--repository", ADDRESS)
        head = git(workspace, "rev-parse", "HEAD")
        curves = [f"{ADDRESS}/blob/{revision}/plots/curves.png?raw=true" for revision in (base, head)]
        assert [picture for picture in re.findall(r'src="(.*?)"', text) if "curves" in picture] == curves

    def test_nothing_from_elsewhere(self, markdown: Markdown) -> None:
        addresses = re.findall(r"https?://[^\"\s)]*", markdown("--repository", ADDRESS))
        assert addresses
        assert [address for address in addresses if not address.startswith(ADDRESS)] == []

    def test_folded_parts_close(self, markdown: Markdown) -> None:
        text = markdown("--repository", ADDRESS)
        assert text.count("<details>") == text.count("</details>") >= 3
        assert re.findall(r"</summary>\n(?!\n)", text) == []  # or GitHub shows the table as text

    def test_no_address(self, markdown: Markdown) -> None:
        text = markdown()
        assert "<img" not in text
        assert "--repository" in text

    def test_address_of_the_runner(self, markdown: Markdown, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
        monkeypatch.setenv("GITHUB_REPOSITORY", "somebody/project")
        assert f'src="{ADDRESS}/blob/' in markdown()

    def test_into_a_file(self, workspace: Path, base: str, run_stage: RunStage) -> None:
        done = run_stage("commands.report", "--markdown", base, "--output", "results.md")
        assert "wrote results.md" in done.stdout
        assert (workspace / "results.md").read_text().startswith("## Results")

    def test_same_text_every_time(self, markdown: Markdown) -> None:
        assert markdown() == markdown()


class TestOneSideLacks:
    def test_new_model(self, workspace: Path, markdown: Markdown) -> None:
        write_results(workspace, {"model_1": 670, "model_2": 880, "model_3": 910}, "model_3")
        text = markdown()
        assert row(text, "model_3") == ["model_3", "-", "91.00 (89.07 to 92.62)", "", "-", "0.0900", "new"]
        assert "model_3 now is better than model_2 of" in text

    def test_model_gone(self, workspace: Path, markdown: Markdown) -> None:
        write_results(workspace, {"model_2": 880}, "model_2")
        assert row(markdown(), "model_1")[-1] == "gone"

    def test_metric(self, workspace: Path, markdown: Markdown) -> None:
        write_json(workspace / "metrics/eval/model_1.json", {"correct": 670, "undecided": 3})
        cells = rows(markdown())
        assert ["metrics/eval/model_1.json", "undecided", "-", "3", ""] in cells
        assert ["metrics/eval/model_1.json", "images", "1000", "-", ""] in cells

    def test_accuracy(self, workspace: Path, markdown: Markdown) -> None:
        comparison = read_json("metrics/compare.json")
        comparison["models"]["model_1"] = {"loss": 0.4}
        write_json("metrics/compare.json", comparison)
        assert row(markdown(), "model_1")[2:] == ["-", "", "0.2500", "0.4000", "not comparable"]

    def test_no_results_at_all(self, workspace: Path, markdown: Markdown) -> None:
        shutil.rmtree(workspace / "metrics")
        shutil.rmtree(workspace / "plots")
        assert row(markdown(), "model_2")[-1] == "gone"

    @pytest.mark.parametrize(
        "change", [{"source": "synthetic"}, {"sha256": {}}, {"counts": {"test": 9}}, {"test_sha256": "5f0c"}]
    )
    def test_other_test_images(self, workspace: Path, markdown: Markdown, change: dict[str, Any]) -> None:
        write_json(workspace / "metrics/data.json", read_json("metrics/data.json") | change)
        text = markdown()
        assert row(text, "model_1")[-1] == "not comparable"
        assert "test images are others" in text

    def test_other_images_are_no_pairs(self, workspace: Path, markdown: Markdown) -> None:
        write_results(workspace, {"model_1": 670, "model_2": 900}, "model_2")
        write_json(workspace / "metrics/data.json", read_json("metrics/data.json") | {"test_sha256": "5f0c"})
        assert "image by image" not in markdown()


class TestBest:
    """The best models of both commits, image by image: the table of the confusion matrix has their answers."""

    def test_better(self, workspace: Path, markdown: Markdown) -> None:
        write_results(workspace, {"model_1": 670, "model_2": 900}, "model_2")
        assert "only model_2 now on 20" in markdown()

    def test_same_answers(self, markdown: Markdown) -> None:
        assert "image by image" not in markdown()

    def test_other_order(self, workspace: Path, markdown: Markdown) -> None:
        write_csv("plots/confusion.csv", ["actual", "predicted"], [("Coat", "Coat")] * IMAGES)
        assert "image by image" not in markdown()

    def test_answers_of_an_older_best_model(self, workspace: Path, markdown: Markdown) -> None:
        """After `dvc repro compare` the table still has what the best model before answered."""
        write_results(workspace, {"model_1": 670, "model_2": 900}, "model_2")
        best = "models/best.safetensors"
        stages = {
            "compare": {"outs": [{"path": best, "md5": "new"}]},
            "confusion": {"deps": [{"path": best, "md5": "old"}]},
        }
        (workspace / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}) + "\n")
        assert "image by image" not in markdown()


@pytest.mark.parametrize(
    ("correct", "verdict"), [(750, "the same"), (760, "cannot be told apart"), (850, "better"), (650, "worse")]
)
def test_verdict(workspace: Path, markdown: Markdown, correct: int, verdict: str) -> None:
    write_results(workspace, {"model_1": correct, "model_2": 880}, "model_2")
    assert row(markdown(), "model_1")[-1] == verdict


def test_edits_that_are_not_committed(workspace: Path, markdown: Markdown) -> None:
    (workspace / "plots/curves.png").write_text("drawn again")
    text = markdown("--repository", ADDRESS)
    assert "not committed" in text
    assert "none in git" in text


def test_texts_are_never_markup(workspace: Path, markdown: Markdown) -> None:
    set_keys(workspace / "params.yaml", {"model_1.arch": HOSTILE})
    commit(workspace, HOSTILE)
    text = markdown("--repository", ADDRESS)
    assert HOSTILE not in text
    assert "@somebody" not in text
    assert "<img src=a>" not in text
    assert len({line.count("|") for line in text.splitlines() if "model_1.arch" in line}) == 1


def test_short_enough_for_a_comment(workspace: Path, markdown: Markdown) -> None:
    write_json(workspace / "metrics/eval/model_1.json", {f"metric_{number:05}" * 5: HOSTILE for number in range(3000)})
    text = markdown()
    assert len(text.encode()) < 65_536
    assert re.search(r"and 2\d\d\d more", text)


class TestRefusals:
    @pytest.mark.usefixtures("base")
    def test_unknown_commit(self, stage_refusal: StageRefusal) -> None:
        assert "nosuch" in stage_refusal("commands.report", "--markdown", "nosuch")

    @pytest.mark.usefixtures("workspace")
    def test_no_repository(self, stage_refusal: StageRefusal) -> None:
        assert "git" in stage_refusal("commands.report", "--markdown", "main")

    def test_damaged_metrics(self, base: str, stage_refusal: StageRefusal) -> None:
        Path("metrics/compare.json").write_text("[")
        assert "metrics/compare.json" in stage_refusal("commands.report", "--markdown", base)
