"""Checkpoints of a run, through Orbax: the only file that touches it.

A checkpoint holds the arrays (parameters, velocity, running sums) and a small JSON with the rest (step,
plateau rule, last evaluation). It holds no generator state: randomness is a function of seed and step.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import itertools
import logging
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any, TypeVarTuple

import jax
import orbax.checkpoint as ocp

from alexnet_jax import messages
from alexnet_jax.errors import CheckpointError
from alexnet_jax.parallel import distributed
from alexnet_jax.parallel.mesh import present

# Orbax logs every step of every save, and failures with a traceback beside the error that it raises.
logging.getLogger("absl").setLevel(logging.CRITICAL)

# Why a checkpoint can't be written: words of TensorStore's or Python's messages; the cause; the remedy.
_REFUSALS = ((("No space left", "ENOSPC", "Disk quota"), "the disk is full", "free some space"),
             (("File too large", "EFBIG"), "a file would be larger than this process may write",
              "raise the limit (ulimit -f)"),
             (("Too many open files", "EMFILE"), "too many open files for this process", "raise the limit (ulimit -n)"))
_ABSENT = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


_Arguments = TypeVarTuple("_Arguments")


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that cancels its remaining tasks before it is closed, as `asyncio.run` does."""

    def close(self) -> None:
        if not self.is_closed():
            left = asyncio.all_tasks(self)
            for task in left:
                task.cancel()
            self.run_until_complete(asyncio.gather(*left, return_exceptions=True) if left else asyncio.sleep(0))
        super().close()

    def call_soon_threadsafe(self, callback: Callable[[*_Arguments], object], *args: *_Arguments,
                             context: contextvars.Context | None = None) -> asyncio.Handle:
        """Called by TensorStore's threads with a result; after the loop is closed, it is no longer needed."""
        try:
            return super().call_soon_threadsafe(callback, *args, context=context)
        except RuntimeError:
            if not self.is_closed():
                raise
            return asyncio.Handle(callback, args, self, context)


@contextlib.contextmanager
def _to_the_end() -> Iterator[None]:
    """Within it, all of Orbax's reads have ended or are cancelled before a failure is raised.

    Orbax raises the first failure and closes its event loop while other reads are pending; each of those would print a
    traceback when it is garbage collected.
    """
    usual = asyncio.new_event_loop
    asyncio.new_event_loop = _Loop
    try:
        yield
    finally:
        asyncio.new_event_loop = usual


def _is_damage(error: BaseException | None, folder: pathlib.Path) -> bool:
    """Is the failure to read due to the checkpoint itself, and not to the machine's state at the moment?"""
    while error is not None:  # Orbax wraps errors
        if isinstance(error, (MemoryError, jax.errors.JaxRuntimeError)):
            return False
        if isinstance(error, OSError):
            if error.errno not in _ABSENT:
                return False
        elif messages.is_for_now(error, str(folder)):
            return False
        error = error.__cause__ or error.__context__
    return True


def _check(step: int, host: Any, foreign: Callable[[dict[str, Any]], str]) -> None:
    """Raises ValueError unless a checkpoint is of its folder's step and of this run."""
    if host["step"] != step:
        raise ValueError(f"it is of step {host['step']}: its folder was renamed")
    if said := foreign(host):
        raise ValueError(said)


def _nobody(_host: dict[str, Any]) -> str:
    return ""


def read_newest(folder: pathlib.Path, say: Callable[[str], None],
                foreign: Callable[[dict[str, Any]], str] = _nobody) -> tuple[Any, dict[str, Any]]:
    """(arrays, host) of the newest checkpoint that can be read, on one device; changes nothing on the disk.

    Shapes come from the checkpoint itself, so neither the network nor its mesh need be known. The run may be training
    meanwhile. Of several processes each gets the arrays on a device of its own.

    Args:
      say: called with a line for each checkpoint that was skipped. foreign: returns why a checkpoint with this host
        part is another run's, or ''.

    Raises:
      CheckpointError: there is none, or none can be read.
    """
    folder, trouble = folder.absolute(), list[str]()
    steps = sorted((int(p.name) for p in folder.glob("*") if re.fullmatch("0|[1-9][0-9]*", p.name) and p.is_dir()),
                   reverse=True)
    if not steps:
        raise CheckpointError(f"{folder}: no checkpoint there; recorded results keep none: give the folder of a run "
                              "of your own")
    present()  # or why there is no device
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    alone = _alone("newest")
    with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(
            read_only=True, multiprocessing_options=alone), item_handlers={
                "arrays": ocp.StandardCheckpointHandler(multiprocessing_options=alone),
                "host": ocp.JsonCheckpointHandler(multiprocessing_options=alone)}) as manager:
        for step in steps:
            try:
                with _to_the_end():
                    saved = manager.item_metadata(step)["arrays"]
                    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), saved.tree)
                    got = manager.restore(step, args=ocp.args.Composite(
                        arrays=ocp.args.StandardRestore(like), host=ocp.args.JsonRestore()))
                _check(step, got["host"], foreign)
            except Exception as error:
                trouble.append(f"{step}: {' '.join(str(error).split())[:160]}")
            else:
                if trouble:
                    say(f"note: {folder}: the weights are those of step {step}; newer ones can't be read "
                        f"({'; '.join(trouble[:3])})")
                return got["arrays"], got["host"]
    raise CheckpointError(f"{folder}: none of its checkpoints can be read ({'; '.join(trouble[:3])}); put a copy of a "
                          "good one back, or train the run again with another --workdir")


def _alone(name: str) -> ocp.options.MultiprocessingOptions:
    """Options with which a process reads without waiting for others: one that cannot read must not block them.

    Args:
      name: of the reader, unique among those open at the same time.
    """
    if not distributed.several():
        return ocp.options.MultiprocessingOptions()
    me = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me},
                                              barrier_sync_key_prefix=f"{name}{me}")


class Checkpoints:
    """The `checkpoints/` folder of a run.

    Args:
      folder: created if absent. keep: how many of the newest are kept.
    """

    def __init__(self, folder: pathlib.Path, keep: int):
        self.folder = folder.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, step: int, arrays: Any, host: dict[str, Any], chunk_bytes: int | None = None) -> None:
        """Starts to write a checkpoint; it counts once it is complete. Raises CheckpointError.

        Args:
          chunk_bytes: arrays are written in pieces of at most this, which takes less memory; None: each in one.
        """
        try:
            if step in self._manager.all_steps():  # the same step again, e.g. after its evaluation
                self.wait()
                self._manager.delete(step)
            self._manager.save(step, args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays, save_args=jax.tree.map(
                    lambda _: ocp.SaveArgs(chunk_byte_size=chunk_bytes), arrays)),
                host=ocp.args.JsonSave(host)), force=True)
        except Exception as error:
            raise self._failed(error) from error

    def wait(self) -> None:
        """Returns when everything is on disk. Raises CheckpointError, e.g. for a full disk."""
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> CheckpointError:
        text = " ".join(str(error).split())
        kept = "the last complete checkpoint is kept" if self._manager.all_steps() else "no checkpoint is complete"
        for words, what, remedy in _REFUSALS:
            if any(word in text for word in words):
                return CheckpointError(f"{self.folder}: {what}; {kept}: {remedy} and run the same command again")
        return CheckpointError(f"{self.folder}: the checkpoint could not be written: {text[:300]}")

    def restore(self, like: Any, say: Callable[[str], None], foreign: Callable[[dict[str, Any]], str] = _nobody
                ) -> tuple[Any, dict[str, Any]] | None:
        """(arrays, host) of the newest checkpoint that can be read; None if there is none at all.

        Damaged ones are moved into the folder above, once an older one has been read or all were tried. Several
        processes call this together, and restore the same one.

        Args:
          like: a tree of `jax.ShapeDtypeStruct` with shardings: the mesh need not be the one that saved.
          say: called with a line for each checkpoint that was skipped. foreign: as in `read_newest`.

        Raises:
          CheckpointError: there are checkpoints and none can be read; or one could not be read for another reason than
            its content (memory, the network, a permission): then nothing is moved.
        """
        damaged: list[int] = []
        with self._reader() as reader:
            for step in sorted(self._manager.all_steps(), reverse=True):
                got, trouble = None, "another process could not"
                try:
                    with _to_the_end():
                        got = reader.restore(step, args=ocp.args.Composite(
                            arrays=ocp.args.StandardRestore(like), host=ocp.args.JsonRestore()))
                    # Orbax silently fills in what is missing on disk: compare the shapes.
                    for want, have in zip(jax.tree.leaves(like), jax.tree.leaves(got["arrays"]), strict=True):
                        if want.shape != have.shape:
                            raise ValueError(f"shape {have.shape} where {want.shape} is needed")
                    _check(step, got["host"], foreign)
                except Exception as error:
                    got, trouble = None, " ".join(str(error).split())[:160]
                    if not _is_damage(error, self.folder):
                        raise CheckpointError(f"{self.folder / str(step)}: could not be read just now ({trouble}); "
                                              "nothing was changed: the same command tries it again") from error
                if distributed.everywhere(got is not None):
                    assert got is not None
                    self._set_aside(damaged, say)
                    return got["arrays"], got["host"]
                say(f"checkpoint {self.folder / str(step)} cannot be read ({trouble})")
                damaged.append(step)
        if damaged:
            self._set_aside(damaged, say)
            raise CheckpointError(f"{self.folder}: none of its checkpoints can be read; run the same command again to "
                                  "begin this run anew, or put a copy of a good one back first")
        return None

    @contextlib.contextmanager
    def _reader(self) -> Iterator[ocp.CheckpointManager]:
        if not distributed.several():
            yield self._manager
            return
        with ocp.CheckpointManager(self.folder, options=ocp.CheckpointManagerOptions(
                read_only=True, multiprocessing_options=_alone("reader"))) as reader:
            yield reader

    def _set_aside(self, steps: list[int], say: Callable[[str], None]) -> None:
        for step in steps if distributed.is_first() else ():
            aside = self.folder.parent / f"unreadable-checkpoint-{step}"
            for count in itertools.count(2):
                if not aside.exists():
                    break
                aside = aside.with_name(f"unreadable-checkpoint-{step}-{count}")
            shutil.move(self.folder / str(step), aside)
            say(f"checkpoint {step} is set aside: {aside}")
        if steps:
            distributed.everywhere(True)  # before any process reads the folder again
            self._manager.reload()

    def close(self) -> None:
        """Finishes writing. Raises CheckpointError if that fails."""
        try:
            self._manager.close()
        except Exception as error:
            raise self._failed(error) from error
