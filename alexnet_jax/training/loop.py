"""One training run: from a config and a workdir to metrics.csv, checkpoints and result.json.

The order of things, on which resuming relies: evaluate → append the rows → checkpoint. So a checkpoint's step
is never ahead of the rows, and a resume that finds rows beyond its checkpoint drops them and computes them again.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import data, names, notes, numerics, paths, provenance, run_files, streams
from alexnet_jax import signals as signals_lib
from alexnet_jax.data import loader
from alexnet_jax.data.classes import check_outputs
from alexnet_jax.data.comparing import about_data, about_data_words
from alexnet_jax.errors import Interrupted, TrainingError, WorkdirError
from alexnet_jax.parallel import distributed
from alexnet_jax.parallel.mesh import make_mesh, put_whole
from alexnet_jax.progress import Progress
from alexnet_jax.text import duration, percent
from alexnet_jax.training import augment, checkpoint, checks, evaluate, initial_signal, inputs, optim, views
from alexnet_jax.training import result as result_lib
from alexnet_jax.training import workdir as workdir_lib
from alexnet_jax.training.events import Events
from alexnet_jax.training.feed import Call, Feed
from alexnet_jax.training.program import Program, State, Sums

_LAG = 2  # calls that may be under way before the host looks at a result


def train(config: ConfigDict, workdir: pathlib.Path, *, name: str = "", overrides: dict | None = None,
          show: bool = True) -> dict[str, Any]:
    """Trains the run of `config` in `workdir`, from where it stands, to its end.

    Args:
      config: checked by `config.resolve` here.
      workdir: the run's folder, made if absent; a finished run is not run again.
      name: of the run's arm, for the records. overrides: what the user changed, for the records.
      show: progress and messages on the terminal as well as in log.txt.

    Returns:
      The content of result.json (alexnet_jax.run_files).

    Raises:
      UserError: one line for anything that a user can mend; Interrupted after a signal (alexnet_jax.signals),
        with a checkpoint.
    """
    config = config_lib.resolve(config)
    numerics.check(config.train.precision)
    checks.layers(config)  # impossible shapes are refused before anything is touched
    make_mesh(config)
    workdir = workdir.absolute()
    paths.check_text(str(workdir), "--workdir")
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        with streams.safe():
            return _train(config, workdir, name, overrides or {}, show)
    except Exception as error:
        if distributed.is_loss(error):
            raise distributed.lost(error) from error
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
            said = " ".join(str(error).split())[:120]
            raise TrainingError(f"config.train.batch_size: there is not enough memory for batches of "
                                f"{config.train.batch_size}; a smaller one, config.train.precision=bfloat16 or "
                                f"config.data.placement=host take less ({said})") from error
        raise


def _train(config: ConfigDict, workdir: pathlib.Path, name: str, overrides: dict, show: bool) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        # Of several processes the first keeps the records; the others write theirs where nobody looks.
        first = distributed.is_first()
        asked = numerics.asked(jax.devices()[0].platform)
        if distributed.several():
            # The processes' machines may keep the data in places of their own.
            fields = config_lib.flatten(config_lib.to_json(config)).items()
            distributed.meet({f"config.{name}": value for name, value in fields
                              if name not in ("data.dir", "data.store")} | asked, workdir)
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
        log = stack.enter_context(workdir_lib.Log(files / "log.txt", show and first))
        signals = stack.enter_context(signals_lib.Signals(signals_lib.at_the_second))
        try:
            run = _Run(config, files, workdir / "checkpoints", name, overrides, show and first, log, signals, asked)
        except signals_lib.Stop:
            raise Interrupted("stopped before the first step; the same command goes on") from None
        return run.run()


class _Run:
    def __init__(self, config: ConfigDict, workdir: pathlib.Path, checkpoints: pathlib.Path, name: str,
                 overrides: dict, show: bool, log: workdir_lib.Log, signals: signals_lib.Signals, asked: dict):
        self.config, self.workdir, self.name, self.log, self.show = config, workdir, name, log, show
        self.signals, self.asked, self.id = signals, asked, workdir_lib.id_of(config, workdir)
        d = config.data
        splits = data.open_splits(d, report=log, dataset=checks.images(config))
        self.train_split, self.eval_split = splits["train_split"], splits["eval_split"]
        self.tune_split, self.fold_split, self.fit_split = map(splits.get, ("tune_split", "fold_split", "fit_split"))
        if distributed.several():
            distributed.meet_over("images", workdir_lib.fingerprints(splits))
        self.images = workdir_lib.images_of(splits)
        for note in workdir_lib.check_images(workdir, self.images, self.train_split.known):
            log(note)
        self.about_data = about_data([s for s in (self.train_split, self.fold_split) if s], self.eval_split)
        for line in about_data_words(self.about_data):
            log(f"note: {line}")
        classes = len(self.train_split.classes)
        check_outputs(config.model.classes, classes, d.name)
        for line in notes.of(config, overrides, classes):
            log(f"note: {line}")
        if not distributed.several():
            signals.check()
        self.course = loader.Course(self.train_split, config.train.batch_size, config.train.epochs, self.fold_split,
                                    config_lib.fold_epoch(config))
        self.steps = self.course.steps
        self.mesh = make_mesh(config)
        self.program = Program(config, classes, self.mesh)
        self.inputs = augment.constants(config, self.train_split.statistics())
        self.consts = put_whole(self.mesh, self.inputs)
        self.checkpoints = checkpoint.Checkpoints(checkpoints, config.checkpoint.keep)
        self.clock, self.started = workdir_lib.Clock(), time.perf_counter()
        self.saved_at = time.monotonic()
        self.seed = np.uint32(config.seed)
        # The host's part of a checkpoint.
        self.step, self.evaluated = 0, 0
        self.saved: tuple[int, int] | None = None  # step and evaluated of the newest checkpoint
        self.plateau = optim.Plateau()
        self.centre: dict | None = None
        self.outcomes: dict[str, dict] = {}  # run_files.packed_outcomes of the reported images, by views
        self._restore()
        evaluated = [s for s in (self.eval_split, self.tune_split) if s]
        self.feed = Feed(config, self.program, self.course, evaluated, log)
        self._describe(overrides)
        inputs.write(workdir, self.inputs, self.train_split.known)
        # A checkpoint from within an evaluation is ahead of the rows: its step's row is still to come.
        self.metrics = run_files.Rows(workdir / "metrics.csv", run_files.METRICS, self.evaluated)
        self.timing = run_files.Rows(workdir / "timing.csv", run_files.TIMING, self.evaluated)
        self.events = Events(workdir, self.evaluated)

    # The state of the run, to and from a checkpoint.

    def _restore(self) -> None:
        shapes = jax.eval_shape(self.program.init, self.seed)
        like = {"state": _with_shardings(shapes, self.program.state_shardings),
                "sums": jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
                                     self.program.zero_sums())}
        restored = self.checkpoints.restore({"state": like["state"]._asdict(), "sums": like["sums"]._asdict()},
                                            self.log, lambda host: workdir_lib.foreign(self.workdir, host, self._due))
        if restored is None:
            with self.clock.measure("compile"):
                self.state = self.program.init(self.seed)
            self.sums = self.program.zero_sums()
            return
        arrays, host = restored
        self.state, self.sums = State(**arrays["state"]), Sums(**arrays["sums"])
        self.step, self.evaluated, self.centre = host["step"], host["evaluated"], host["centre"]
        self.outcomes = host.get("outcomes", {})  # older checkpoints have none
        self.saved = self.step, self.evaluated
        kept = host["plateau"]  # JSON has no infinity
        best = math.inf if kept["best"] is None else kept["best"]
        self.plateau = optim.Plateau(best, kept["waited"], kept["drops"])
        self.log(f"resuming at step {self.step} of {self.steps}")

    def _save(self) -> None:
        plateau = {k: None if v == math.inf else v for k, v in dataclasses.asdict(self.plateau).items()}
        with self.clock.measure("checkpoint"):
            self.checkpoints.save(self.step, {"state": self.state._asdict(), "sums": self.sums._asdict()}, {
                "step": self.step, "evaluated": self.evaluated, "centre": self.centre, "outcomes": self.outcomes,
                "plateau": plateau})
        self.saved_at, self.saved = time.monotonic(), (self.step, self.evaluated)

    def _describe(self, overrides: dict) -> None:
        path = self.workdir / "run.json"
        before = run_files.read_json(path)
        here = provenance.describe(self.mesh, self.program.products or self.config.train.precision, self.asked)
        about = {"about_data": self.about_data} if self.about_data else {}
        if before is not None:
            changed = provenance.changed(before, here)
            entry = {"at": run_files.now(), **changed} if changed else run_files.now()
            kept = {key: value for key, value in before.items() if key != "about_data"}
            run_files.write_json(path, {**kept, **about, "resumed": [*before.get("resumed", []), entry]})
            if changed:
                self.log(f"note: other than when this run began: {', '.join(changed)} (run.json)")
            return
        run_files.write_json(path, {
            "schema": run_files.SCHEMA, "name": self.name, "id": self.id,
            "seed": self.config.seed, "config": config_lib.to_json(self.config), "overrides": overrides,
            "images": self.images, "classes": workdir_lib.classes_of(self.train_split.known),
            **about,
            "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]], **here,
            "started": run_files.now(), "resumed": []})

    # The loop.

    def run(self) -> dict[str, Any]:
        config = self.config
        self.log(f"{config.data.name}: {len(self.train_split):,} training images ({config.data.train_split}), "
                 f"{len(self.eval_split):,} to report on ({config.data.eval_split}); {self.steps:,} steps in "
                 f"{config.train.epochs} epochs on {self.mesh.size} {jax.devices()[0].platform} device(s)")
        if self.saved is None:
            with self.clock.measure("compile"):
                signals = initial_signal.signals(self.program, self.state.params, self.consts, self.train_split.images)
            for line in filter(None, (initial_signal.line(signals), initial_signal.warning(signals))):
                self.log(line)
        lost, counts = False, {}
        with Progress(self.workdir, config.train.epochs, self.steps, self.show) as progress:
            try:
                diverged = self._loop(progress)
                if diverged is None:
                    if "centre" not in self.outcomes:
                        self._evaluate(self.eval_split, "centre", progress)
                    for view in views.counted(config)[1:]:
                        counts[view] = self._evaluate(self.eval_split, view, progress)
                    if self.fit_split:
                        counts["fit"] = self._evaluate(self.fit_split, "centre", progress)
                    self._record_times(self.course.place(self.step)[0], None)
                self.checkpoints.wait()
            except signals_lib.Stop:
                self.log("stopping: saving a checkpoint")
                if self.saved != (self.step, self.evaluated):
                    self._save()
                self.checkpoints.wait()
                progress.update("stopped", self.step, self.course.epochs_done(self.step))
                raise Interrupted(f"stopped at step {self.step} of {self.steps}; the same command goes on from "
                                  "there") from None
            except Exception as error:
                lost = distributed.is_loss(error)
                raise
            finally:
                self.metrics.close()
                self.timing.close()
                self.events.close()
                if not lost:  # else closing would wait for a process that no longer answers
                    self.checkpoints.close()
            if not distributed.is_first():
                return {}  # the first has the rows, and writes what comes of them
            early = not diverged and self.step < self.steps
            result = result_lib.result(
                self.name, self.id, config, (self.train_split, self.eval_split), self.step if early else self.steps,
                self.metrics.rows, diverged, {"centre": self.centre, **counts}, self.about_data,
                (self.course.place(self.step)[0], self._ended()) if early else None)
            if not diverged:
                assert self.centre is not None
                run_files.write_outcomes(self.workdir, self.centre["total"], self.outcomes)
            run_files.write_json(self.workdir / "result.json", result)
            progress.update(result["status"], self.step, self.course.epochs_done(self.step))
        self.log(result_lib.last_words(result, len(self.train_split.classes)))
        return result

    def _loop(self, progress: Progress) -> str | None:
        """Trains to the last step. Returns why the run had to be given up, or None."""
        config = self.config
        pending: collections.deque = collections.deque()
        seen: tuple[float, int, int] | None = None
        if self.step < self.steps:
            progress.update("compiling", self.step, self.course.epochs_done(self.step))
        compiled = False
        pace = self.feed.pace
        with contextlib.closing(self.feed.training(config.seed, self.step)) as calls:
            while True:
                if self.step and self._due(self.step) and self.evaluated < self.step:
                    pending.clear()
                    pace.begin()
                    problem = self._milestone(progress)
                    if problem:
                        return problem
                    seen = None
                if self.step == self.steps or self._ended():
                    return None
                if self._poll(self.step) and self.step and self.saved != (self.step, self.evaluated):
                    self._save()
                    pace.begin()
                with self.clock.measure("train" if compiled else "compile"):
                    call = next(calls)
                    self.state, self.sums = self._step(call)
                    self.step += call.steps
                    pending.append((call.steps, self.sums))
                    if len(pending) > _LAG:
                        # Waiting for an earlier call keeps the queue short without stalling the device.
                        steps, sums = pending.popleft()
                        seen = (float(sums.loss), int(sums.wrong), int(sums.images))
                        pace.ended(steps)
                        if not math.isfinite(seen[0]):
                            return self._not_finite(seen[2])
                self.clock.images += call.steps * config.train.batch_size if compiled else 0
                compiled = True
                if seen is not None:
                    rate = self.clock.rate()
                    left = rate and (self.steps - self.step) * config.train.batch_size / rate
                    progress.update("training", self.step, self.course.epochs_done(self.step), rate,
                                    seen[1] / seen[2], left)

    def _poll(self, count: int) -> bool:
        """Is a checkpoint due by the clock? Raises Stop after a signal. Several processes agree, now and then."""
        due = time.monotonic() - self.saved_at > self.config.checkpoint.every_seconds
        if not distributed.several():
            self.signals.check()
            return due
        if count % distributed.EVERY:
            return False
        stop, due = distributed.agree(self.signals.received is not None, due)
        if stop:
            raise signals_lib.Stop
        return due

    def _ended(self) -> str:
        """Why the run ends with the last evaluation, whose outcome is in the checkpoint too; '' if it goes on."""
        wanted = self.config.train.stop_at_error
        if wanted and self.centre is not None and run_files.error_rates(self.centre)[0] <= wanted:
            return f"the evaluation error had reached config.train.stop_at_error = {wanted:g}"
        if self.config.optim.plateau.stop and self.plateau.over(self.config):
            return "the tuning error had stopped improving after the rate's last fall (config.optim.plateau.stop)"
        return ""

    def _due(self, step: int) -> bool:
        """Is there an evaluation after `step` steps, and a checkpoint with it?"""
        epoch, place = self.course.place(step)
        return (place == 0 and epoch % self.config.train.eval_every == 0) or step == self.steps

    def _step(self, call: Call) -> tuple[State, Sums]:
        epochs = self.course.epochs_done(self.step)
        rates = {k: np.float32(v) for k, v in optim.rates(self.config, epochs, self.plateau).items()}
        return self.feed.train(call, self.state, self.sums, self.consts, self.seed, np.int32(self.step), rates,
                               np.float32(optim.noise_amount(self.config, epochs)))

    def _not_finite(self, images: int) -> str:
        step = self.evaluated + images // self.config.train.batch_size
        rate = self.config.optim.learning_rate
        return (f"the loss was not finite at step {step} of {self.steps}; try a smaller config.optim.learning_rate "
                f"(it is {rate:g})")

    def _evaluate(self, split, views: str, progress: Progress) -> dict:
        progress.update("evaluating", self.step, self.course.epochs_done(self.step))
        batches, outcomes = itertools.count(1), list[np.ndarray]()
        with self.clock.measure("eval"):
            counts = evaluate.evaluate(self.program, self.state.params, self.consts, split, views,
                                       lambda: self._poll(next(batches)), self.feed, outcomes.append)
        if split is self.eval_split:
            self.outcomes[views] = run_files.packed_outcomes(np.concatenate([np.zeros(0, np.int8), *outcomes]))
        return counts

    def _milestone(self, progress: Progress) -> str | None:
        """Evaluation, the rows, the plateau rule and a checkpoint. Returns why to give up, or None."""
        config = self.config
        with self.clock.measure("train"):  # the calls still under way
            loss, wrong, images = float(self.sums.loss), int(self.sums.wrong), int(self.sums.images)
        if not math.isfinite(loss):
            return self._not_finite(images)
        rate = optim.rates(config, self.course.epochs_done(self.step - 1), self.plateau)["weights"]
        self.centre = self._evaluate(self.eval_split, "centre", progress)
        if not math.isfinite(self.centre["loss"]):  # the last update was one too many
            return self._not_finite(images)
        top1, top5 = run_files.error_rates(self.centre)
        # Once the tuning images may be among those that are learnt from, their error tells nothing.
        folded = self.fold_split is not None and self.course.split(self.step - 1) is self.fold_split
        tune = self._evaluate(self.tune_split, "centre", progress) if self.tune_split and not folded else None
        epoch = self.course.place(self.step)[0]
        row = {"epoch": epoch, "step": self.step, "learning_rate": rate, "train_loss": loss / images,
               "train_top1_error": wrong / images, "eval_loss": self.centre["loss"], "eval_top1_error": top1,
               "eval_top5_error": top5, "tune_loss": tune and tune["loss"],
               "tune_top1_error": tune and run_files.error_rates(tune)[0]}
        if tune and config.optim.schedule == "plateau" and self.plateau.observe(row["tune_top1_error"], config):
            self.log(f"epoch {epoch}: the tuning error has stopped improving; the learning rate falls")
        self.metrics.append(row)
        five = run_files.tells_top5(len(self.train_split.classes))
        self.events.add(row if five else {name: value for name, value in row.items() if name != "eval_top5_error"})
        self.evaluated = self.step
        self.sums = self.program.zero_sums()
        self._save()
        times = self._record_times(epoch, self.clock.rate() or 0.0)
        self.events.add(times)
        progress.evaluated(top1)
        error = f"{percent(top1)} top-1, {percent(top5)} top-5" if five else percent(top1)
        self.log(f"epoch {epoch}/{config.train.epochs}: rate {rate:g} · training loss {row['train_loss']:.4f}, error "
                 f"{percent(row['train_top1_error'])} · evaluation error {error} "
                 f"· {duration(times['train_seconds'] + times['eval_seconds'])}")
        return None

    def _record_times(self, epoch: int, rate: float | None) -> dict[str, Any]:
        """Appends a row to timing.csv and begins to measure anew."""
        clock = self.clock
        times = {"epoch": epoch, "step": self.step, "train_seconds": round(clock.train, 3),
                 "eval_seconds": round(clock.eval, 3), "checkpoint_seconds": round(clock.checkpoint, 3),
                 "compile_seconds": round(clock.compile, 3),
                 "images_per_second": None if rate is None else round(rate, 2),
                 "elapsed_seconds": round(time.perf_counter() - self.started, 3)}
        self.timing.append(times)
        self.clock = workdir_lib.Clock()
        return times


def _with_shardings(shapes, shardings):
    return jax.tree.map(lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), shapes,
                        shardings)
