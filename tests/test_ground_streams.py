"""Commands work with any stdout and stderr, and print what these can display."""

import io
import json
import os
import pathlib
import re
import subprocess
import sys

import fake_sweep
import pytest
import tiny_run

from alexnet_jax import errors, run_files, streams

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONSOLES = ("ascii", "latin-1", "cp1252", "cp437")  # that lack some signs
SILENT = ("closed", "none", "ended", "gone", "stuck")  # where nothing arrives and nobody complains
KINDS = ("utf-8", *CONSOLES, "tty ascii", "tty utf-8", "notebook", *SILENT, "full")

# name → (module, arguments; WORK is a folder of the case's own, SWEEP a sweep that is there)
PRINTING = {
    "describe": ("alexnet_jax.describe", ["--config=configs/cifar10.py"]),
    "status": ("experiments.status", ["--workdir=SWEEP"]),
    "report": ("experiments.report", ["--workdir=SWEEP"]),
    "dry_run": ("experiments.run", ["--sweep=configs/sweeps/three.py", "--dry_run"]),
    "catalogue": ("experiments.run", ["--config=configs/shapes.py", "--list"]),
    "usage": ("experiments.status", ["--workdri=×"]),
}
WORKING = {"prepare": ("alexnet_jax.data.prepare", ["--config=configs/shapes.py", "--config.data.store=WORK",
                                                    "--config.data.size=16", "--config.data.crop=12",
                                                    "--config.data.eval_split=test[:20]"])}
TRAINING = ("alexnet_jax.main", ["--config=configs/shapes.py", "--workdir=WORK/run", "--config.augment.chunk=8", *(
    f"--config.{name}={str(value).replace(' ', '')}" for name, value in tiny_run.TINY.items())])
# A run each, of the kinds of stdout and stderr.
RUNS = [("utf-8", "utf-8"), ("ascii", "closed"), ("closed", "closed"), ("full", "tty ascii"), ("gone", "notebook"),
        ("notebook", "none")]


def kinds_of(what):
    if what == "report":
        return ("utf-8", "cp437")  # it draws for a second
    if what in ("status", "dry_run", "catalogue"):  # by the way that describe goes, and a table's lines
        return ("utf-8", "ascii", "cp437", "tty ascii", "closed", "full")
    return [kind for kind in KINDS if kind != "stuck" or what == "describe"]  # which is waited for


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{case: (exit code, what came out on stdout, on stderr, the case's folder)}."""
    if sys.platform != "linux":
        pytest.skip("it needs /dev/full and pipes of a given size")
    tmp = tmp_path_factory.mktemp("streams")
    sweep = fake_sweep.write_sweep(tmp / "sweep×", states={("no_lrn", 0): "failed"})
    cases = {}
    for what, (module, arguments) in {**PRINTING, **WORKING}.items():
        for kind in kinds_of(what):
            for key in ("out", "err") if what == "usage" else ("out",):
                cases[f"{what} {key} {kind}"] = {"command": module, "arguments": arguments, key: kind}
    for out, err in RUNS:
        cases[f"main {out} {err}"] = {"command": TRAINING[0], "arguments": TRAINING[1], "out": out, "err": err}
    for name, case in cases.items():
        work = tmp / "work" / name.replace(" ", "_")
        case["arguments"] = [a.replace("WORK", str(work)).replace("SWEEP", str(sweep)) for a in case["arguments"]]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": "",
        "ALEXNET_STORE_DIR": str(tmp / "store"), "JAX_COMPILATION_CACHE_DIR": str(tmp / "xla"), "COLUMNS": "500",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = subprocess.run([sys.executable, str(ROOT / "tests" / "forked.py")], input=json.dumps(cases),
                          capture_output=True, text=True, cwd=tmp, env=env, check=False)
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout.splitlines()[-1])

    def text(name, key):
        file, kind = tmp / f"{name}.{key}", cases[name].get(key, "utf-8").removeprefix("tty ")
        return file.read_bytes().decode("utf-8" if kind == "notebook" else kind) if file.exists() else ""

    return {name: (codes[name], text(name, "out"), text(name, "err"), tmp / "work" / name.replace(" ", "_"))
            for name in cases}


def shown(text, kind):
    """What a console of this kind shows of it."""
    encoding = kind.removeprefix("tty ")
    return text.encode(encoding, "replace").decode(encoding) if encoding in ("utf-8", *CONSOLES) else text


def settled(text):
    """Without what differs from run to run: times, folders, and what is packed and compiled by the first."""
    return re.sub(r"\d+ min \d+ s|\b\d+ s\b|work/[^/]+", "…", re.sub(r"(?m)^(packing|compiled:) .*\n", "", text))


@pytest.mark.parametrize(("what", "kind"), [(what, kind) for what in (*PRINTING, *WORKING)
                                            for kind in kinds_of(what)])
def test_a_command_says_what_can_be_shown(results, what, kind):
    key = "err" if what == "usage" else "out"
    code, out, err, work = results[f"{what} {key} {kind}"]
    expected_code, expected_out, expected_err, _ = results[f"{what} {key} utf-8"]
    mine, expected = (err, expected_err) if key == "err" else (out, expected_out)
    assert expected_code == (errors.USAGE if what == "usage" else 0)
    assert len(expected) > 20
    if kind == "full":
        assert mine == ""
        assert code == (0 if what in WORKING else expected_code or errors.RUN)
        if key == "out":
            kind_of_line = "note" if what in WORKING else "error"
            assert err.splitlines()[-1] == (f"{kind_of_line}: stdout: No space left on device; what was written to it "
                                            "after that is lost")
    else:
        assert code == expected_code
        if kind in SILENT:
            assert mine == ""
        elif what in WORKING and kind.startswith("tty"):  # below a bar
            assert set(settled(shown(expected, kind)).split("\n")) <= set(settled(mine).split("\n"))
        elif "─" not in expected or kind == "utf-8":  # a table's lines are drawn in another way
            assert settled(mine) == settled(shown(expected, kind))
        if key == "out":
            assert settled(err) == settled(expected_err)
    assert "Traceback" not in out + err
    if what == "prepare":
        assert len(list(work.glob("shapes-*/meta.json"))) == 2


@pytest.mark.parametrize(("out", "err"), RUNS)
def test_a_run_comes_to_its_end(results, out, err):
    code, said, complaint, work = results[f"main {out} {err}"]
    _, expected, _, first = results["main utf-8 utf-8"]
    assert code == 0
    for name in ("metrics.csv", "result.json", "outcomes.json"):
        assert (work / "run" / name).read_bytes() == (first / "run" / name).read_bytes()
    lines = [line.partition(" ")[2] for line in (work / "run" / "log.txt").read_text("utf-8").splitlines()]
    assert lines[-1].startswith("finished: error centre crop ")
    assert any("·" in line for line in lines)
    assert settled("\n".join(lines)).replace("\n", "") in settled(expected).replace("\n", "")
    if out in ("utf-8", "ascii", "notebook"):
        assert settled(said) == settled(shown(expected, out))
    else:
        assert said == ""
    if err in ("utf-8", "cp437", "tty ascii", "notebook"):
        assert "2" in complaint  # the epochs
        assert "Traceback" not in complaint
        assert ("note: stdout: No space left on device" in complaint) == (out == "full")
    assert run_files.read_json(work / "run" / "progress.json")["state"] == "finished"


def test_the_shell_closes_streams():
    """A table's line of truth: what Python itself makes of it, and that no file takes stderr's place."""
    command = f"{sys.executable} -m alexnet_jax.describe --config=configs/cifar10.py"
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    for closing, code in ((" 1>&- 2>&- 0<&-", 0), (" 2>&- | head -1; exit ${PIPESTATUS[0]}", 0), (" > /dev/full", 1)):
        done = subprocess.run(["bash", "-c", command + closing], cwd=ROOT, env=env, capture_output=True, check=False)
        assert done.returncode == code
        assert len(done.stderr.splitlines()) == code


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    code = ("import os, sys; from alexnet_jax import commands\n"
            "def main(): print(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY) > 2)\n"
            "commands.run_main(main)")
    done = subprocess.run(["bash", "-c", f'{sys.executable} -c "{code}" {tmp_path}/file <&- 2>&-'], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.stdout == "True\n"


def test_a_program_that_calls_train_keeps_its_streams(monkeypatch, capsys):
    class Rare:
        def write(self, text):
            raise ValueError("not now")

    rare = Rare()
    monkeypatch.setattr(sys, "stdout", rare)
    monkeypatch.setattr(sys, "stderr", None)
    with streams.safe():
        print("×", flush=True)
        print("×", flush=True, file=sys.stderr)
        assert not sys.stdout.isatty()
        assert not sys.stderr.isatty()
        with pytest.raises(io.UnsupportedOperation):
            sys.stdout.fileno()
        with streams.safe():
            inner = sys.stdout
        assert sys.stdout is inner, "once is enough"
    assert sys.stdout is rare
    assert sys.stderr is None


@pytest.mark.parametrize("name", ["utf-8", "klingon", None, 7])
def test_a_stream_that_names_another_encoding_than_it_has(monkeypatch, name):
    class Liar:
        encoding, said = name, ""

        def write(self, text):
            self.said += text.encode("ascii").decode()

    monkeypatch.setattr(sys, "stdout", liar := Liar())
    with streams.safe():
        print("12 × 3")
        print("14 – 5")
        assert sys.stdout.encoding == "utf-8"
    assert liar.said == "12 ? 3\n14 ? 5\n"


def test_text_that_no_encoding_has(capsys):
    with streams.safe():
        print(os.fsdecode(b"m\xfcll"), "12 ×")
    assert capsys.readouterr().out == "m?ll 12 ×\n"
