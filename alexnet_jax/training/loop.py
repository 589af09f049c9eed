"""One training run: from a config and a workdir to metrics.csv, checkpoints and result.json.

Resuming relies on this order: evaluate → append the rows → checkpoint. So a checkpoint's step is never ahead of the
rows, and a resume that finds rows beyond its checkpoint drops them and computes them again.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import messages, names, notes, numerics, paths, provenance, run_files, streams
from alexnet_jax import signals as signals_lib
from alexnet_jax.errors import Interrupted, TrainingError, WorkdirError
from alexnet_jax.parallel import distributed
from alexnet_jax.parallel.mesh import make_mesh, put_whole
from alexnet_jax.text import count
from alexnet_jax.training import augment, checks, evaluate, initial_signal, initial_weights, inputs, optim, views
from alexnet_jax.training import given as given_lib
from alexnet_jax.training import result as result_lib
from alexnet_jax.training import workdir as workdir_lib
from alexnet_jax.training.compiling import Compiling
from alexnet_jax.training.feed import Call, Feed, UnderWay
from alexnet_jax.training.images import RunImages
from alexnet_jax.training.program import Moment, Program, State, Sums
from alexnet_jax.training.recorder import Recorder, write_run_json
from alexnet_jax.training.resume import Saves, Standing


def train(config: ConfigDict, workdir: pathlib.Path, *, name: str = "", overrides: dict | None = None,
          show: bool = True) -> dict[str, Any]:
    """Trains the run of `config` in `workdir` to its end, resuming it if it was interrupted.

    Args:
      config: checked here by `config.resolve`.
      workdir: the run's folder, created if absent; a finished run is not run again.
      name: the run's arm, for the records. overrides: what the user changed, for the records.
      show: print progress and messages on the terminal, besides log.txt.

    Returns:
      The content of result.json (alexnet_jax.run_files).

    Raises:
      UserError: one line for anything that a user can fix; Interrupted after a signal (alexnet_jax.signals), with a
        checkpoint saved.
    """
    config = config_lib.resolve(config)
    numerics.check(config.train.precision)
    checks.layers(config)  # impossible shapes are refused before anything is touched
    make_mesh(config)
    workdir = workdir.absolute()
    paths.check_workdir(workdir, "--workdir")
    config = initial_weights.filled(config, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        with streams.safe():
            return _train(config, workdir, name, overrides or {}, show)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error.filename = error.filename or str(workdir)  # errors of open files name none
        if distributed.is_loss(error):
            raise distributed.lost(error) from error
        if isinstance(error, jax.errors.JaxRuntimeError) and messages.is_out_of_memory(error):
            message = " ".join(str(error).split())[:120]
            raise TrainingError(f"config.train.batch_size: there is not enough memory for batches of "
                                f"{config.train.batch_size}; a smaller one, config.train.precision=bfloat16 or "
                                f"config.data.placement=host take less ({message})") from error
        raise


def _train(config: ConfigDict, workdir: pathlib.Path, name: str, overrides: dict, show: bool) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        # Of several processes the first keeps the records; the others write theirs into a temporary folder.
        first = distributed.is_first()
        asked = numerics.asked(jax.devices()[0].platform)
        if distributed.several():
            # The data may lie elsewhere on each machine.
            fields = config_lib.flatten(config_lib.to_json(config)).items()
            distributed.meet({f"config.{name}": value for name, value in fields
                              if name not in ("data.dir", "data.store", "init.weights")} | asked, workdir)
        files = workdir if first else pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        result = None
        if first:
            stack.enter_context(workdir_lib.lock(workdir))
            result = run_files.read_json(workdir / "result.json")
            if (result or {}).get("status") == "imported":
                raise WorkdirError(f"{workdir}: holds an imported network, which is not trained further in its own "
                                   "folder; choose another --workdir")
            workdir_lib.check_owner(config, workdir)
        finished = result is not None and result.get("status") in ("finished", "diverged")
        if distributed.from_first(finished) if distributed.several() else finished:
            if show and result:
                classes = run_files.classes_of(run_files.read_json(workdir / "run.json"))
                names.say(f"{workdir}: nothing left to do; {result_lib.last_words(result, classes)}")
            return result or {}
        if first:
            workdir_lib.check_environment(workdir, asked)
            if not any((workdir / "checkpoints").glob("*")):
                initial_weights.check(config)  # before an image is read
        log = stack.enter_context(workdir_lib.Log(files / "log.txt", show and first))
        signals = stack.enter_context(signals_lib.Signals(signals_lib.at_the_second))
        compiling = stack.enter_context(Compiling(signals.check, _threads()))
        try:
            run = Run(config, files, workdir / "checkpoints", name, overrides, show and first, log, signals, asked,
                      compiling)
        except signals_lib.Stop:
            raise Interrupted("stopped before the first step; the same command resumes it") from None
        return run.run()


def _threads() -> int:
    """How many programs to compile at once; 0: each when it is first called, which is as fast on one core."""
    cores, on_cpu = len(provenance.cores()), jax.devices()[0].platform == "cpu"
    if distributed.several() or (on_cpu and cores == 1):  # several processes compile together, in the same order
        return 0
    return min(4, max(cores, 2))


class Run:
    """A run in progress: `standing` and, on the mesh, `state` and `sums`, which the loop updates step by step.

    `images` holds its splits, `feed` makes batches of them, `program` computes, `saves` keeps checkpoints, `recorder`
    writes logs and metrics.
    """

    def __init__(self, config: ConfigDict, workdir: pathlib.Path, checkpoints: pathlib.Path, name: str,
                 overrides: dict, show: bool, log: workdir_lib.Log, signals: signals_lib.Signals, asked: dict,
                 compiling: Compiling):
        self.compiling = compiling
        self.config, self.workdir, self.name, self.signals = config, workdir, name, signals
        self.id = workdir_lib.id_of(config, workdir)
        self.images = images = RunImages(config, workdir, log)
        for line in notes.of(config, overrides, images.classes):
            log(f"note: {line}")
        if not distributed.several():
            signals.check()
        self.course = images.course(config)
        mesh = make_mesh(config)
        self.program = Program(config, images.classes, mesh)
        constants = augment.constants(config, images.train.statistics())
        self.consts = put_whole(mesh, constants)
        clock = workdir_lib.Clock()
        self.saves = Saves(checkpoints, config, self.program)
        found = self.saves.restore(log, lambda host: workdir_lib.foreign(workdir, host, self._due))
        self.feed = Feed(config, self.program, self.course, [s for s in (images.eval, images.tune) if s], log)
        if not distributed.several():
            split = self.course.split(found[2].step if found else 0)
            with clock.measure("compile"):
                compiling.begin(given_lib.programs(self.program, self.feed, split, images.eval, found is None))
        if found is None:
            with clock.measure("compile"):
                compiling.ready(given_lib.INITIALISATION)
                self.state = self.program.init(np.uint32(config.seed))
            self.state = initial_weights.begin(config, self.program, self.state, images, log)
            self.sums, self.standing = self.program.zero_sums(), Standing()
        else:
            self.state, self.sums, self.standing = found
            log(f"resuming at step {self.standing.step} of {self.course.steps}")
        about = {"about_data": images.about} if images.about else {}
        write_run_json(workdir, {
            "name": name, "id": self.id, "seed": config.seed, "config": config_lib.to_json(config),
            "overrides": overrides, "images": images.recorded,
            "classes": workdir_lib.classes_of(images.train.known), **about,
        }, provenance.describe(mesh, self.program.products or config.train.precision, asked), log)
        inputs.write(workdir, constants, images.train.known)
        # A checkpoint saved during an evaluation is ahead of the rows: its step's row is still to come.
        self.recorder = Recorder(workdir, config, self.course, self.standing.evaluated, images.classes, show, log,
                                 clock)
        log(f"{config.data.name}: {len(images.train):,} training images ({config.data.train_split}), "
            f"{len(images.eval):,} to report on ({config.data.eval_split}); {count(self.course.steps, 'step')} in "
            f"{count(config.train.epochs, 'epoch')} on {mesh.size} {jax.devices()[0].platform} device(s)")
        if found is None:
            with clock.measure("compile"):
                compiling.ready(given_lib.SIGNALS)
                signal = initial_signal.of(self.program, self.state.params, self.consts, images.train.images)
            for line in filter(None, (initial_signal.line(signal), initial_signal.warning(signal))):
                log(line)

    def run(self) -> dict[str, Any]:
        """Trains to the end; returns the content of result.json."""
        lost, counts = False, {}
        with self.recorder:
            try:
                diverged = self._loop()
                if diverged is None:
                    counts = self._last_evaluations()
                self.saves.wait()
            except signals_lib.Stop:
                self.recorder.log("stopping: saving a checkpoint")
                if not self.saves.has(self.standing):
                    self._save()
                self.saves.wait()
                self.recorder.state("stopped", self.standing.step)
                raise Interrupted(f"stopped at step {self.standing.step} of {self.course.steps}; the same command "
                                  "resumes it") from None
            except Exception as error:
                lost = distributed.is_loss(error)
                raise
            finally:
                if not lost:  # closing would wait for a process that no longer answers
                    self.saves.close()
            if not distributed.is_first():
                return {}  # the first process has the rows, and writes the result
            return self._finish(diverged, counts)

    # The loop.

    def _loop(self) -> str | None:
        """Trains to the last step. Returns why the run had to be given up, or None."""
        at, under_way, kind = self.standing, UnderWay(self.feed.pace), "compile"
        if at.step < self.course.steps:
            self.recorder.state("compiling", at.step)
            # On a CPU compiling would slow down training; an accelerator trains while its host compiles the rest.
            later = not self.compiling.eager or jax.devices()[0].platform != "cpu"
            self._ready(given_lib.STEP, *(() if later else (given_lib.EVALUATION,)))
        with (contextlib.closing(self.feed.training(self.config.seed, at.step)) as calls,
              jax.transfer_guard("disallow")):  # only explicit transfers
            while True:
                if at.step and self._due(at.step) and at.evaluated < at.step:
                    under_way.forget(seen=True)
                    if problem := self._milestone():
                        return problem
                if at.step == self.course.steps or self._ended():
                    return None
                if self._poll(at.step) and at.step and not self.saves.has(at):
                    self._save()
                    under_way.forget()
                with self.recorder.clock.measure(kind):
                    call = next(calls)
                    self.state, self.sums = self._step(call)
                    at.step += call.steps
                    under_way.add(call.steps, self.sums)
                if kind == "train":
                    self.recorder.clock.images += call.steps * self.config.train.batch_size
                if under_way.seen is not None and not math.isfinite(under_way.seen.loss):
                    return self._not_finite(under_way.seen)
                self.recorder.trained(at.step, under_way.seen)
                kind = "train"

    def _step(self, call: Call) -> tuple[State, Sums]:
        epochs = self.course.epochs_done(self.standing.step)
        rates = {k: np.float32(v) for k, v in optim.rates(self.config, epochs, self.standing.plateau).items()}
        moment = Moment(np.uint32(self.config.seed), np.int32(self.standing.step), rates,
                        np.float32(optim.noise_amount(self.config, epochs)))
        return self.feed.train(call, self.state, self.sums, self.consts, moment)

    def _milestone(self) -> str | None:
        """Evaluates, appends the rows, applies the plateau rule and saves. Returns why to give up, or None."""
        config, at = self.config, self.standing
        with self.recorder.clock.measure("train"):  # waits for the calls in flight
            sums = jax.device_get(self.sums)
        if not math.isfinite(sums.loss):
            return self._not_finite(sums)
        rate = optim.rates(config, self.course.epochs_done(at.step - 1), at.plateau)["weights"]
        at.centre = self._evaluate(self.images.eval, "centre")
        if not math.isfinite(at.centre["loss"]):  # the last update was one too many
            return self._not_finite(sums)
        top1, top5 = run_files.error_rates(at.centre)
        # Once the tuning images may be trained on, their error means nothing.
        folded = self.images.fold is not None and self.course.split(at.step - 1) is self.images.fold
        tune = self._evaluate(self.images.tune, "centre") if self.images.tune and not folded else None
        epoch, seen = self.course.place(at.step)[0], int(sums.images)
        row = {"epoch": epoch, "step": at.step, "learning_rate": rate, "train_loss": float(sums.loss) / seen,
               "train_top1_error": int(sums.wrong) / seen, "eval_loss": at.centre["loss"], "eval_top1_error": top1,
               "eval_top5_error": top5, "tune_loss": tune and tune["loss"],
               "tune_top1_error": tune and run_files.error_rates(tune)[0]}
        if tune and config.optim.schedule == "plateau" and at.plateau.observe(row["tune_top1_error"], config):
            self.recorder.log(f"epoch {epoch}: the tuning error has stopped improving; the learning rate falls")
        self.recorder.row(row)
        at.evaluated, self.sums = at.step, self.program.zero_sums()
        self._save()
        self.recorder.saved()
        return None

    def _evaluate(self, split, views: str) -> dict:
        self._ready(given_lib.evaluation(views))
        self.recorder.state("evaluating", self.standing.step)
        batches, outcomes = itertools.count(1), list[np.ndarray]()
        with self.recorder.clock.measure("eval"):
            counts = evaluate.evaluate(self.program, self.state.params, self.consts, split, views,
                                       lambda: self._poll(next(batches)), self.feed, outcomes.append)
        if split is self.images.eval:
            self.standing.outcomes[views] = run_files.packed_outcomes(np.concatenate([np.zeros(0, np.int8), *outcomes]))
        return counts

    def _ready(self, *names: str) -> None:
        """Waits until these programs are compiled, and logs how long each took."""
        with self.recorder.clock.measure("compile"):
            self.compiling.ready(*names)
        if line := self.compiling.told():
            self.recorder.log(line)

    def _save(self) -> None:
        with self.recorder.clock.measure("train"):  # the calls in flight, which saving would wait for
            jax.block_until_ready(self.sums)
        with self.recorder.clock.measure("checkpoint"):
            self.saves.save(self.state, self.sums, self.standing)

    def _poll(self, count: int) -> bool:
        """Is a checkpoint due by the clock? Raises Stop after a signal. Several processes agree every `EVERY` calls."""
        due = self.saves.due()
        if not distributed.several():
            self.signals.check()
            return due
        if count % distributed.EVERY:
            return False
        stop, due = distributed.agree(self.signals.received is not None, due)
        if stop:
            raise signals_lib.Stop
        return due

    def _due(self, step: int) -> bool:
        """Is there an evaluation after `step` steps, and a checkpoint with it?"""
        epoch, place = self.course.place(step)
        return (place == 0 and epoch % self.config.train.eval_every == 0) or step == self.course.steps

    def _ended(self) -> str:
        """Why the run ends early, after the latest evaluation; '' if it doesn't."""
        wanted, centre = self.config.train.stop_at_error, self.standing.centre
        if wanted and centre is not None and run_files.error_rates(centre)[0] <= wanted:
            return f"the evaluation error had reached config.train.stop_at_error = {wanted:g}"
        if self.config.optim.plateau.stop and self.standing.plateau.over(self.config):
            return "the tuning error had stopped improving after the rate's last fall (config.optim.plateau.stop)"
        return ""

    def _not_finite(self, sums: Sums) -> str:
        step = self.standing.evaluated + int(sums.images) // self.config.train.batch_size
        rate = self.config.optim.learning_rate
        return (f"the loss was not finite at step {step} of {self.course.steps}; try a smaller "
                f"config.optim.learning_rate (it is {rate:g})")

    # The end.

    def _last_evaluations(self) -> dict[str, dict]:
        """The final COUNTS other than the centre crop's, by their names in result.json."""
        if "centre" not in self.standing.outcomes:
            self._evaluate(self.images.eval, "centre")
        counts = {view: self._evaluate(self.images.eval, view) for view in views.counted(self.config)[1:]}
        if self.images.fit:
            counts["fit"] = self._evaluate(self.images.fit, "centre")
        self.recorder.times(self.course.place(self.standing.step)[0], self.standing.step)
        return counts

    def _finish(self, diverged: str | None, counts: dict[str, dict]) -> dict[str, Any]:
        at, epoch = self.standing, self.course.place(self.standing.step)[0]
        early = not diverged and at.step < self.course.steps
        result = result_lib.result(
            self.name, self.id, self.config, (self.images.train, self.images.eval),
            at.step if early else self.course.steps, self.recorder.metrics.rows, diverged,
            {"centre": at.centre, **counts}, self.images.about, (epoch, self._ended()) if early else None)
        if not diverged:
            assert at.centre is not None
            run_files.write_outcomes(self.workdir, at.centre["total"], at.outcomes)
        run_files.write_json(self.workdir / "result.json", result)
        self.recorder.state(result["status"], at.step)
        self.recorder.log(result_lib.last_words(result, self.images.classes))
        return result
