"""Ray whose nodes don't wait for their agents, for tests: on a busy machine these take longer than Ray gives them.

    python tests/ray_agents.py start …        as `python -m ray.scripts.scripts start …`

A node chooses nothing itself: it waits fifteen seconds for its agents to write down their ports, and then ends. Here it
finds them written. Neither metrics nor environments of tasks, which the agents are for, are used.
"""

import sys

import ports
from ray._private import services
from ray._raylet import persist_port

_start_raylet = services.start_raylet


def _with_ports(*arguments, **options):
    session, node = arguments[11], arguments[2]
    options["runtime_env_agent_port"] = options.get("runtime_env_agent_port") or ports.free()
    for name in ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port"):
        persist_port(session, node, name, -1)  # as an agent without metrics and dashboard does
    return _start_raylet(*arguments, **options)


services.start_raylet = _with_ports

if __name__ == "__main__":
    from ray.scripts.scripts import main

    sys.exit(main())
