"""Ray whose nodes have no agents, for tests: on a busy machine these take longer to start than Ray gives them.

    python tests/ray_agents.py start …        as `python -m ray.scripts.scripts start …`

A node chooses nothing itself: it waits fifteen seconds for its agents to write down their ports, and then ends. Here it
finds them written, and `cat` in each agent's place: it ends when the node does, which its standard input comes from.
Neither metrics nor environments of tasks, which the agents are for, are used.
"""

import sys

import ports
from ray._private import services
from ray._raylet import persist_port

_start_raylet, _start_process = services.start_raylet, services.start_ray_process
_AGENTS = ("--dashboard_agent_command=", "--runtime_env_agent_command=")


def _with_ports(*arguments, **options):
    session, node = arguments[11], arguments[2]
    options["runtime_env_agent_port"] = options.get("runtime_env_agent_port") or ports.free()
    for name in ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port"):
        persist_port(session, node, name, -1)  # as an agent without metrics and dashboard does
    return _start_raylet(*arguments, **options)


def _without_agents(command, *arguments, **options):
    command = [next((f"{agent}cat" for agent in _AGENTS if part.startswith(agent)), part) for part in command]
    return _start_process(command, *arguments, **options)


services.start_raylet, services.start_ray_process = _with_ports, _without_agents

if __name__ == "__main__":
    from ray.scripts.scripts import main

    sys.exit(main())
