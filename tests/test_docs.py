"""The documentation: its commands run, its links and paths exist, and the README is short."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from benchmarks import table
from experiments import report, robustness

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RECORDS = ROOT / "experiments" / "results"
LINKED = [*PAGES, RECORDS / "README.md", *sorted(RECORDS.glob("*/report.md")), ROOT / "experiments" / "CLAIMS.md",
          ROOT / "benchmarks" / "RESULTS.md"]
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.M | re.S)

# Commands that are not tried here, each with its reason.
NOT_RUN = {
    "alexnet_jax.predict": "needs a trained run: test_commands_predict.py",
    "alexnet_jax.features": "needs a trained run: test_commands_predict.py",
    "alexnet_jax.evaluate": "needs a trained run: test_inspect_mistakes.py",
    "alexnet_jax.weights": "needs weights of others: test_weights_import.py, test_weights_export.py",
    "experiments.run --config=configs/cifar10.py --config.data.name=image_folder:tiny-few":
        "needs images and a run: test_training_initial_weights.py",
    "experiments.report": "needs a sweep: test_claims_report.py",
    "experiments.status": "needs a sweep: test_launch_run.py",
    "experiments.kernels": "needs checkpoints of a sweep: test_analysis_colour.py",
    "experiments.retrieval": "needs checkpoints of a sweep: test_inspect_trained.py",
    "experiments.ensemble": "needs checkpoints of a sweep: test_inspect_trained.py",
    "experiments.figure1": "hours of training: test_figures_figure1.py has its parts",
    "experiments.recording": "needs a sweep: test_analysis_recording.py",
    "experiments.repeats": "test_analysis_repeats.py prints the recorded ones",
    "experiments.claims": "test_claims_pages.py",
    "experiments.run --sweep=configs/sweeps/claims_tiny_imagenet.py": "needs its images",
    "experiments.robustness --images": "reads CIFAR-10: test_claims_robustness.py",
    "benchmarks.": "minutes to hours: test_benchmarks.py tries their --quick",
}
SHELL = ("source ", "export ", "ray ", "mkdir ", "pip install -c constraints.txt -e ", "sbatch ")


def fenced(page: pathlib.Path) -> list[str]:
    """The commands of a page's code blocks, continued lines joined, comments left out."""
    blocks = FENCE.findall(page.read_text("utf-8"))
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).split("\n")]
    lines = [re.sub(r"\s+#\s.*$", "", line).strip() for line in lines]
    return [line for line in lines if re.match(r"(python|make|JAX_\w+=\S+ python|srun|" + "|".join(SHELL) + ")", line)]


def inline(page: pathlib.Path) -> list[str]:
    found = re.findall(r"`(python -m [^`]+?)`", FENCE.sub("", page.read_text("utf-8")).replace("\n", " "))
    return [command for command in found if "…" not in command and " " in command.removeprefix("python -m ")]


def trial(command: str) -> str | None:
    """What is run in a command's place: 'module argument …'; None where nothing is, for a reason of NOT_RUN."""
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S+|srun|--ntasks=\d+", word)]
    if words[1].startswith("examples/"):
        assert (ROOT / words[1]).is_file(), command  # test_training_initial_weights.py tries it
        return None
    if words[1:3] == ["-m", "venv"]:
        return None  # .ci/run and the Makefile make one
    assert words[:2] == ["python", "-m"], command
    module, arguments = words[2], words[3:]
    if any(" ".join(words[2:]).startswith(name) for name in NOT_RUN):
        return None
    if module == "experiments.robustness":
        return " ".join([module, *arguments])
    if module == "experiments.run":
        kept = [word for word in arguments if not word.startswith(("--executor", "--ray_address", "--dry_run"))]
        return " ".join([module, *kept, *(() if "--list" in kept else ("--dry_run",))])
    assert module.removeprefix("alexnet_jax.") in ("main", "describe", "data.prepare", "health"), module
    config = [word for word in arguments if word.startswith("--config")]
    assert config or "--list" in command or "--delete" in command, command
    return " ".join(["alexnet_jax.describe", *config]) if config else None


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    commands = {trial(c) for page in PAGES for c in (*fenced(page), *inline(page)) if "python" in c} - {None}
    folder = tmp_path_factory.mktemp("docs")
    (folder / "flowers").mkdir()
    made = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "documented.py")], input=json.dumps(sorted(commands)), cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "ALEXNET_DATA_DIR": str(folder), "ALEXNET_STORE_DIR": str(folder)},
        capture_output=True, encoding="utf-8", check=True)
    return json.loads(made.stdout)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_can_be_typed(page, done):
    targets = set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.M)[1].split())
    for command in (*fenced(page), *inline(page)):
        if command.startswith("make "):
            assert command.split()[1] in targets, command
        elif "python" in command:
            tried = trial(command)
            if tried is not None:
                code, output = done[tried]
                assert code == 0, f"{command}\n{output}"


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        file = page.parent / path if path else page
        assert file.exists(), link
        if anchor:
            heads = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-")
                     for head in re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.M)]
            assert anchor in heads, link
    rooms = "alexnet_jax|experiments|configs|tests|benchmarks|docs"
    for path in re.findall(rf"`((?:{rooms})/[\w/.-]+)(?::[\w*-]+)?`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_a_page_starts_with_its_one_sentence(page):
    title, sentence, *_ = page.read_text("utf-8").split("\n\n")
    assert re.fullmatch(r"# .+", title)
    assert re.fullmatch(r"[A-Z].*[a-z]\.", sentence.replace("\n", " ")), sentence
    assert not re.search(r"[.!?]\s+[A-Z]", sentence), sentence
    assert f"docs/{page.name}" in PAGES[0].read_text("utf-8") or page.stem == "CONTRIBUTING"


NUMBERS = re.compile(r"[+−-]?(\d+\.\d+)[^\s\[]* \[[+−-]?(\d+\.\d+), [+−-]?(\d+\.\d+)\]")


def _intervals(text: str) -> set[tuple[str, ...]]:
    """(mean, both ends) of the intervals in a text, without their signs: claims turn them round."""
    return {(found[1], *sorted((found[2], found[3]))) for found in NUMBERS.finditer(text)}


def test_the_intervals_of_the_pages_are_what_commands_print(capsys):
    recorded = RECORDS / "not_claims"
    robustness.main([])
    report.main([f"--workdir={recorded / 'fine_tuning'}", "--sets=3"])
    printed = capsys.readouterr().out + (ROOT / "experiments" / "CLAIMS.md").read_text("utf-8")
    printed += "".join(report.render(recorded / name) for name in ("three", "fine_tuning"))
    for page, least in {"README": 15, "results": 15, "weights": 4}.items():
        text = next(one for one in PAGES if one.stem == page).read_text("utf-8")
        found = _intervals(text.replace("\n", " ").replace("points ", ""))
        assert len(found) > least
        assert found <= _intervals(printed), found - _intervals(printed)
        if page == "weights":
            errors = re.findall(r"^\| [\w -]+ \| \d+ \| (\d+\.\d+) \|", text, re.M)
            assert len(errors) == 3
            assert all(f" {error} " in printed for error in errors)


def test_the_ratios_of_the_full_network_are_those_recorded():
    """docs/speed.md: the ratio of each recipe on one core, the range of all on two."""
    recorded = {}
    for name, joint in (("full_one_core", " and "), ("full", " to ")):
        rows = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))["rows"]
        cells = []
        for side in ("PyTorch", "PyTorch, tuned"):
            for without in (False, True):
                ratios = [row["ratio"][side]["median"] for row in rows if row["network"].endswith("-no-lrn") == without]
                kept = ratios if joint == " and " else (min(ratios), max(ratios))
                cells.append(joint.join(f"{ratio:.2f}" for ratio in kept))
        recorded[name] = " | ".join(cells)
    text = (ROOT / "docs" / "speed.md").read_text("utf-8")
    assert f"| one core, two recipes | {recorded['full_one_core']} |" in text
    assert f"| two cores, three recipes | {recorded['full']} |" in text


def test_the_other_numbers_of_the_page_on_speed_are_those_recorded():
    recorded = {name: json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))
                for name in ("small", "profile", "sweep")}
    page = (ROOT / "docs" / "speed.md").read_text("utf-8")
    for row in recorded["small"]["rows"]:
        plain, tuned = (row["ratio"][side]["median"] for side in ("PyTorch", "PyTorch, tuned"))
        assert f"| `{row['network']}` | {plain:.2f} | {tuned:.2f} |" in page
    text = " ".join(page.split())
    step = recorded["profile"]["rows"][0]
    assert (f"{step['kinds']['convolutions and matrix products']:.2f} s of the full network's "
            f"{step['seconds']['median']:.2f} s") in text
    one_each, all_cores = recorded["sweep"]["rows"][:2]
    assert f"{one_each['wall']['median']:.0f} s for the twelve runs" in text
    assert f"compared with {all_cores['wall']['median']:.0f} s for one run at a time" in text


def test_the_memory_of_an_import_is_as_recorded():
    recorded = json.loads((ROOT / "benchmarks" / "results" / "importing.json").read_text("utf-8"))
    text = (ROOT / "docs" / "weights.md").read_text("utf-8")
    assert f"\n\n{table.render(recorded)}\n\n" in text
    assert recorded["rounds"] == 3
    peaks = [row["peak"] for row in recorded["rows"]]
    assert max((peak["most"] - peak["least"]) / peak["median"] for peak in peaks) < 0.01
    assert "differ by 1% at most" in text


def test_the_tables_of_the_benchmarks_are_those_of_their_records():
    results = {path.stem: json.loads(path.read_text("utf-8"))
               for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text("utf-8")
    assert len(results) >= 10
    assert table.fill(text, results) == text


def test_every_slow_test_is_there():
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    names = (ROOT / "tests" / "slow.txt").read_text("utf-8").split()
    assert [name for name in names if f"def {name}(" not in tests] == []


def test_the_readme_is_read_in_three_minutes():
    assert len((ROOT / "README.md").read_text("utf-8").split("\n")) <= 175
