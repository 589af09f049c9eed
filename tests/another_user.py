"""Runs a function as another user of the machine: `in_child`, in a fork; needs root."""

import json
import os
import pathlib
import tempfile

import pytest

NOBODY = 65534
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0,
                                reason="only root can become another user")
# The child does little and ends at once.
forks = [pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
         pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning")]


@pytest.fixture
def shared():
    """A folder that others may read: pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder).chmod(0o755)
        yield pathlib.Path(folder)


def in_child(function, user=None, group=None):
    """`function()` in a fork, as another user where one is given; what it returns, through JSON."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if user is not None:
                os.setgroups([])
                os.setresgid(*[user if group is None else group] * 3)
                os.setresuid(user, user, user)
            answer = function()
        except BaseException as error:
            answer = repr(error)
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)
