"""Free ports of this machine for services that tests start."""

import os
import pathlib
import random
import socket


def free():
    """A port that nothing listens on and that the system gives to nobody.

    Those that it hands out by itself, one to each connection, lie in a range of their own: such a port could be taken
    between this call and the start of the service.
    """
    try:
        first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        first = 32768
    chance = random.Random(os.urandom(8))  # whatever seeds the tests use
    for _ in range(100):
        port = chance.randrange(20000, first) if first > 20100 else 0  # Ray's workers have those below
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise AssertionError("no port is free")
