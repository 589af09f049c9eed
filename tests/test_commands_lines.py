"""Command lines as typed by users: mistakes give one line and exit code 2, `--help` gives help and exit code 0."""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import pytest
from data_files import encoded, pixels

from alexnet_jax import cli, paths, schema
from alexnet_jax import config as config_lib
from alexnet_jax.commands import Parser
from alexnet_jax.errors import ConfigError, UserError

ROOT = pathlib.Path(__file__).resolve().parents[1]

MAIN, RUN, PREPARE = "alexnet_jax.main", "experiments.run", "alexnet_jax.data.prepare"
SHAPES = "--config=configs/shapes.py"


def _main(argument):
    return [MAIN, SHAPES, "--workdir=w", argument]


def _run(*arguments):
    return [RUN, SHAPES, "--workdir=w", "--dry_run", *arguments]


# name: (module and arguments, the whole line)
WRONG = {
    "no": (_main("--config.augment.mirror=no"), "config.augment.mirror: 'no' is not True or False"),
    "no_flag": (_main("--noconfig.train.epochs"), "--noconfig.train.epochs: write it as --config.train.epochs=VALUE"),
    "fraction": (_main("--config.train.epochs=1e-1"), "config.train.epochs: 0.1 is not a whole number"),
    "letters": (_main("--config.train.epochs=ten"), "config.train.epochs: 'ten' is not a whole number"),
    "nothing": (_main("--config.train.epochs="), "config.train.epochs: '' is not a whole number"),
    "huge": (_main("--config.train.epochs=1e300"), f"config.train.epochs: {int(1e300)} is above 2147483647"),
    "number": (_main("--config.optim.learning_rate=0,1"), "config.optim.learning_rate: '0,1' is not a number"),
    "open": (_main("--config.model.lrn.layers=(1,2"),
             "config.model.lrn.layers: '(1,2' is not a tuple; write it as in 1,2, or () for none"),
    "no_tuple": (_main("--config.optim.table.at="),
                 "config.optim.table.at: '' is not a tuple; write it as in 0.5,0.9, or () for none"),
    "hole": (_main("--config.model.lrn.layers=1,,2"), "config.model.lrn.layers: '' is not a whole number"),
    "lr": (_main("--config.optim.lr=0.1"), "config.optim.lr: no such field; did you mean config.optim.learning_rate?"),
    "bs": (_main("--config.bs=3"), "config.bs: no such field; did you mean config.train.batch_size?"),
    "batch": (_main("--config.train.batch_size=100"),
              "config.augment.chunk: 32 images that share a crop do not divide config.train.batch_size = 100; choose "
              "config.augment.chunk=25 or 50, or config.train.batch_size=96 or 128"),
    "processes": (_main("--processes=1e1"), "--processes=1e1: '1e1' is not a whole number"),
    "verify": ([PREPARE, SHAPES, "--verify=perhaps"], "--verify=perhaps: 'perhaps' is not True or False"),
    "no_images": (_main("--config.data.train_split="),
                  "config.data.train_split: a run needs images to learn from; name a split, e.g. train"),
    "no_report": (_run("--config.data.eval_split= "),
                  "config.data.eval_split: a run needs images to report on; name a split, e.g. test"),
    "vanishing": (_main("--config.optim.learning_rate=1e-400"),
                  "config.optim.learning_rate: 1e-400 is too small for a number here, and would be 0"),
    "folder": ([RUN, "--config=f.py", "--dry_run"], "--config=f.py: a folder; name a Python file"),
    "device": ([MAIN, "--config=/dev/null", "--workdir=w"],
               "--config=/dev/null: not a regular file; name a Python file"),
    "no_suffix": ([MAIN, "--config=noext", "--workdir=w"],
                  "--config=noext: not a Python file; its name has to end in .py"),
    "null": ([RUN, "--config=null.py", "--dry_run"],
             "--config=null.py: SyntaxError: source code string cannot contain null bytes"),
    "exits": ([RUN, "--config=exits.py", "--dry_run"], "--config=exits.py: line 1: SystemExit: 3"),
    "exits_too": ([RUN, "--sweep=exits.py", "--dry_run"], "--sweep=exits.py: line 1: SystemExit: 3"),
    "colon": ([RUN, "--config=a:b/raises.py:paper", "--dry_run"],
              "--config=a:b/raises.py: line 1: ZeroDivisionError: division by zero"),
    "bucket": ([MAIN, SHAPES, "--workdir=gs://bucket/run"], "--workdir: gs://bucket/run is an address, not a folder on "
               "this machine; mount it, and name it by its path"),
    "bucket_too": (["experiments.status", "--workdir=s3://bucket"], "argument --workdir: s3://bucket is an address, "
                   "not a folder on this machine; mount it, and name it by its path"),
    "no_seeds": (_run("--seeds="), "--seeds=: is neither how many (3 stands for 0, 1, 2) nor a list of seeds"),
    "nobody": ([MAIN, SHAPES, "--workdir=~nosuch-user/x"],
               "--workdir: the home folder of ~nosuch-user is not known; write the path out instead of "
               "~nosuch-user/x"),
    "bytes": ([MAIN, SHAPES, "--workdir=\xff"], r"an argument: '--workdir=\udcff' holds bytes that are not UTF-8; "
              "rename it, or name another"),
    "bytes_too": (["experiments.status", "--workdir=\xff"], r"an argument: '--workdir=\udcff' holds bytes that are not "
                  "UTF-8; rename it, or name another"),
    "count": (_run("--seeds=20241127"),
              "--seeds=20241127: means that many seeds, and a sweep has at most 10,000; write "
              "--seeds=20241127, for the one seed 20241127"),
    "count_of_no_seed": (_run("--seeds=4294967296"),
                         "--seeds=4294967296: means that many seeds, and a sweep has at most 10,000"),
    "above": (_run("--seeds=2147483648,"), "--seeds=2147483648,: seed 2147483648 is above 2147483647"),
    "negative": (_run("--seeds=-1,2"), "--seeds=-1,2: write how many (3 stands for 0, 1, 2) or a list (0,5,7)"),
    "many": (_run(f"--seeds={'9' * 5000}"), f"--seeds={'9' * 56}…: means that many seeds, and "
             "a sweep has at most 10,000"),
    "in_file": ([RUN, "--sweep=seeds.py", "--dry_run"],
                "--sweep=seeds.py: seeds: means that many seeds, and a sweep has at most 10,000"),
    "figure1": (["experiments.figure1", "--workdir=w", "--seeds=20241127"],
                "--seeds=20241127: means that many seeds, and a sweep has at most 10,000; write "
                "--seeds=20241127, for the one seed 20241127"),
    "fit_split": ([RUN, "--config=configs/cifar10.py", "--config.data.dir=.", "--dry_run", "--ablations=one.py:fit"],
                  "arm fit: config.data.fit_split: 1,000 images of 'train[39000:41000]' are not in "
                  "config.data.train_split = 'train[:40000]'; choose some of these"),
    "outputs": ([RUN, "--config=configs/cifar10.py", "--dry_run", "--config.model.classes=5"],
                "config.model.classes: 5 outputs for the 10 classes of cifar10; set it to 0 for one output per class"),
    "arguments": (_run("--ablations=mine.py:two"), "--ablations=mine.py:two: is called with the base config and "
                  "nothing else: missing a required argument: 'b'"),
    "none_of_it": (_run("--ablations=mine.py:three"), "--ablations=mine.py:three: name a generator of the file, as in "
                   "mine.py:width; it has width"),
    "raises": ([RUN, "--sweep=raises.py", "--dry_run"], "--sweep=raises.py: line 4: KeyError: 'x'"),
    "raises_too": ([MAIN, "--config=./raises.py", "--workdir=w"], "--config=./raises.py: line 8: KeyError: 'y'"),
    "one_arm": (_run("--ablations=one.py:arm"), "--ablations=one.py:arm: returns one arm; yield it, or return [it]"),
    "a_number": (_run("--ablations=one.py:number"),
                 "--ablations=one.py:number: returns int; it should yield arms or return a list of them"),
}
HELP = (MAIN, RUN, PREPARE, "alexnet_jax.describe", "alexnet_jax.health", "experiments.status", "experiments.report",
        "experiments.kernels", "experiments.figure1", "benchmarks.table")
FILES = {
    "f.py/x": "", "noext": "", "null.py": "\0", "exits.py": "raise SystemExit(3)\n", "a:b/raises.py": "1 / 0\n",
    "raises.py": "\n\ndef get_sweep():\n    return {}['x']\n\n\ndef get_config():\n    return {}['y']\n",
    "seeds.py": "def get_sweep():\n    return {'config': 'configs/shapes.py', 'seeds': 2**31}\n",
    "mine.py": "from experiments.ablations import Arm\n\n\ndef width(config):\n    'Half the units.'\n"
               "    return [Arm('half', {'model.fc6.features': 256})]\n\n\ndef two(a, b):\n    return []\n",
    "one.py": "from experiments.ablations import Arm\n\n\ndef arm(config):\n    return Arm('half', {})\n\n\n"
              "def number(config):\n    return 3\n\n\n"
              "def fit(config):\n    yield Arm('fit', {'data.fit_split': 'train[39000:41000]'})\n",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{name: (exit code, stdout, stderr)}, and that nothing was written."""
    tmp = tmp_path_factory.mktemp("lines")
    for name, content in FILES.items():
        (tmp / name).parent.mkdir(exist_ok=True)
        (tmp / name).write_text(content, encoding="utf-8")
    before = sorted(path.name for path in tmp.iterdir())
    cases = {name: arguments for name, (arguments, _) in WRONG.items()}
    cases |= {f"help_{module}": [module, "--help"] for module in HELP}
    cases["absent"] = [RUN, "--config=configs/image_folder.py", f"--config.data.dir={tmp}", "--dry_run",
                       "--config.data.name=image_folder:nowhere"]
    cases["download"] = [RUN, "--config=configs/cifar10.py", f"--config.data.dir={tmp}", "--dry_run",
                         f"--config.data.store={tmp}/store"]
    cases |= {"helpfull": [MAIN, "--helpfull"], "list": [RUN, "--list", "--ablations=mine.py"],
              "fields": _run("--config.train.epochs=1e1", "--config.model.lrn.layers=1,2", "--noconfig.augment.mirror",
                             "--seeds=7,")}
    done = subprocess.run([sys.executable, ROOT / "tests/programs/commands_forked.py"], input=json.dumps(cases),
                          capture_output=True, text=True, encoding="utf-8", cwd=tmp, check=False,
                          # With an allocator of the user's main doesn't start itself over.
                          env=os.environ | {"PYTHONPATH": str(ROOT), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"})
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout)
    found = {}
    for name in cases:
        outputs = [tmp / f"{name}.{fd}" for fd in (1, 2)]
        found[name] = (codes[name][0], *(path.read_text(encoding="utf-8") for path in outputs))
        assert codes[name][1] == [], "JAX takes seconds to import"
        for path in outputs:
            path.unlink()
    assert sorted(path.name for path in tmp.iterdir() if path.name != "__pycache__") == before
    return found


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(results, name):
    assert results[name] == (2, "", f"error: {WRONG[name][1]}\n")


def test_a_dry_run_looks_for_the_images(results):
    code, out, err = results["absent"]
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "nowhere: no such folder" in err
    code, out, err = results["download"]
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("note: cifar10: its files are missing and will be downloaded first (https://")


@pytest.mark.parametrize("module", HELP)
def test_help_is_help(results, module):
    code, out, err = results[f"help_{module}"]
    assert (code, err) == (0, "")
    if module.startswith("alexnet_jax") or module == RUN:
        assert "--config=configs/shapes.py" in out
        assert "--config.train.epochs=3" in out
        assert "--helpfull" in out
        assert "--verbosity" not in out  # absl's
    assert out.index("--workdir" if module in (MAIN, RUN) else "-") < len(out) - 100


def test_the_whole_help_has_the_libraries_flags_too(results):
    code, out, _ = results["helpfull"]
    assert code == 0
    assert "--verbosity" in out
    assert "--coordinator" in out


@pytest.mark.parametrize("columns", ["1", "0", "many"])
def test_the_whole_help_has_its_room_on_any_terminal(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as end:
        cli._help(["main", "--helpfull"])
    assert end.value.code == 0
    assert "--verbosity" in capsys.readouterr().out


def test_a_function_that_returns_a_list_is_listed_and_named(results):
    code, out, _ = results["list"]
    assert code == 0
    assert next(line for line in out.splitlines() if line.startswith("mine.py:")).split(maxsplit=1) == [
        "mine.py:width", "Half the units."]
    assert "mine.py:two" not in out


@pytest.mark.parametrize(("value", "path", "recipe"), [
    ("a.py", "a.py", ""), ("a.py:paper", "a.py", "paper"), ("a.py:", "a.py", ""), ("a:b.py", "a:b.py", ""),
    ("C:/x/a.py:paper", "C:/x/a.py", "paper"), ("old.py:x/a.py", "old.py:x/a.py", ""),
    ("noext:paper", "noext", "paper")])
def test_a_path_may_have_colons_of_its_own(value, path, recipe):
    assert cli.file_and_recipe(value) == (path, recipe)


def test_values_as_people_write_them(results):
    code, out, err = results["fields"]
    assert (code, err) == (0, "")
    assert "seeds 7\n" in out


@pytest.mark.parametrize(("name", "text", "value"), [
    ("train.epochs", "1e1", 10), ("train.epochs", "10.0", 10), ("train.epochs", " 3 ", 3),
    ("augment.mirror", "TRUE", True), ("augment.mirror", "0", False), ("optim.learning_rate", "1e-3", 1e-3),
    ("optim.learning_rate", "1", 1.0),
    ("model.lrn.layers", "1,2", (1, 2)), ("model.lrn.layers", "(1, 2,)", (1, 2)), ("model.lrn.layers", "[2]", (2,)),
    ("model.lrn.layers", "()", ()), ("model.lrn.layers", "1", (1,)),
    ("model.exchange", "('conv3', \"fc6\")", ("conv3", "fc6")),
    ("model.exchange", "fc6", ("fc6",)), ("optim.table.at", "1e1,20", (10.0, 20.0)), ("mesh.data", "2", "2"),
    ("data.name", "image_folder:a,b (c)", "image_folder:a,b (c)")])
def test_a_text_becomes_its_field_s_value(name, text, value):
    parsed = config_lib.parse(name, text)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize("name", config_lib.FIELDS)
def test_every_default_is_read_back_as_it_is_written(name):
    default = config_lib.FIELDS[name].default
    assert config_lib.parse(name, str(default)) == default


def test_what_other_projects_call_a_field_is_one():
    for word, field in schema.ALIASES.items():
        config_lib.check_name(field)
        with pytest.raises(ConfigError, match=f"did you mean config.{field}\\?"):
            config_lib.check_name(f"x.{word}")


def test_a_home_folder_is_expanded_wherever_a_path_is_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    from alexnet_jax.data import registry, store
    from experiments.analysis import workdirs

    assert paths.given("~/x", "--workdir") == tmp_path / "x"
    assert paths.given("a~/~", "--workdir") == pathlib.Path("a~/~")
    parser = Parser("x", "")
    parser.add_argument("--workdir", type=pathlib.Path)
    parser.add_argument("folders", nargs="*", type=pathlib.Path)
    options = parser.parse_args(["--workdir=~/x", "~/y", "z"])
    assert (options.workdir, options.folders) == (tmp_path / "x", [tmp_path / "y", pathlib.Path("z")])
    data = config_lib.override(config_lib.default(), {"data.dir": "~/data", "data.store": "~/s"}).data
    assert (registry.data_dir(data), store.root(data.store)) == (tmp_path / "data", tmp_path / "s")
    assert registry.find(config_lib.override(config_lib.default(), {"data.name": "image_folder:~/cats"}).data,
                        tmp_path)._root == tmp_path / "cats"
    (tmp_path / "w").mkdir()
    assert workdirs.choose("", tmp_path, {"ALEXNET_WORKDIR": "~/w"}) == tmp_path / "w"
    for name in ("ALEXNET_DATA_DIR", "ALEXNET_STORE_DIR"):
        monkeypatch.setenv(name, "~/e")
    assert (registry.data_dir(config_lib.default().data), store.root("")) == (tmp_path / "e", tmp_path / "e")
    with pytest.raises(ConfigError, match=r"^config\.data\.dir: the home folder of ~nosuch-user is not known"):
        registry.data_dir(config_lib.override(config_lib.default(), {"data.dir": "~nosuch-user/x"}).data)
    for text in ("a\udcff", "a\0b"):
        with pytest.raises(ConfigError, match=r"^config\.data\.dir: 'a\\"):
            config_lib.override(config_lib.default(), {"data.dir": text})


def parsed(*arguments, among="images"):
    parser = Parser("x", "")
    if among:
        parser.add_argument(among, nargs="*", type=pathlib.Path)
    parser.add_workdir("RUN", "the run's folder", among)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args([str(word) for word in arguments])
    return str(options.workdir), [str(path) for path in getattr(options, among or "folder")], options.json


def test_a_folder_is_named_by_workdir_or_first_and_options_stand_anywhere(tmp_path):
    (tmp_path / "run.json").touch()
    run = str(tmp_path)
    for words in ((run, "--json", "a", "b"), ("a", f"--workdir={run}", "b", "--json"), ("--json", run, "a", "b")):
        assert parsed(*words) == (run, ["a", "b"], True)
    assert parsed(f"--workdir={run}", "--", "--x.jpg", "-y") == (run, ["--x.jpg", "-y"], False)
    assert parsed(f"--workdir={run}", run) == (run, [run], False)
    assert parsed(run, "--json", among="") == parsed("--json", "--workdir", run, among="") == (run, [], True)
    for words, among, said in (
            ((), "images", "--workdir=RUN is needed: the run's folder"), ((), "", "--workdir=RUN is needed"),
            (("a.jpg",), "images", r"--workdir=RUN is needed: the run's folder, which a\.jpg is not \(no run\.json\)"),
            ((run, "b"), "", f"b: only one folder is read, and {run} is given too"),
            ((f"--workdir={run}", "b"), "", "b: only one folder is read"), ((run, "--jsn"), "", "did you mean --json")):
        with pytest.raises(ConfigError, match=said):
            parsed(*words, among=among)


@pytest.mark.parametrize(("module", "more"), [
    ("alexnet_jax.predict", ["photo.png"]), ("alexnet_jax.features", ["--layer=conv1", "--out=f.npz"]),
    ("alexnet_jax.evaluate", []), ("alexnet_jax.weights.exporting", ["--to=x.pth"]), ("experiments.kernels", []),
    ("experiments.retrieval", []), ("experiments.ensemble", []), ("experiments.status", []),
    ("experiments.report", [])])
def test_every_command_that_looks_at_a_run_takes_both(module, more, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}", encoding="utf-8")
    (tmp_path / "photo.png").write_bytes(encoded(pixels(1)))
    said = []
    for words in ([f"--workdir={run}", *more], [str(run), *more], [*more, "--workdir", str(run)]):
        try:
            importlib.import_module(module).main(words)
            said.append(capsys.readouterr().out)
        except UserError as error:
            said.append(str(error))
    assert len(set(said)) == 1
    assert "run" in said[0]
    assert "is needed" not in said[0]
