"""A machine with fake GPUs: stand-ins on PATH for NVIDIA's listing and its multi-process service."""

import os
import pathlib

_LISTING = """#!/bin/sh
case "$1" in
-L) for i in {indices}; do echo "GPU $i: NVIDIA H200 (UUID: GPU-$i-of-these)"
    for j in {instances}; do echo "  MIG 1g.18gb     Device  $j: (UUID: MIG-$i-$j)"; done; done ;;
--query-gpu=name) for i in {indices}; do echo "NVIDIA H200"; done ;;
--query-gpu=*) for i in {indices}; do echo "$i, GPU-$i-of-these, NVIDIA H200, {free}, 143771, {mig}"; done ;;
esac
"""

# Answers by exit code and in the words of the real one; the service itself is a process that sleeps.
_SERVICE = """#!/bin/sh
pipe=${{CUDA_MPS_PIPE_DIRECTORY:-{default}}}
if [ "$1" = -d ]; then
  echo "-d pipe=$pipe log=$CUDA_MPS_LOG_DIRECTORY cards=$CUDA_VISIBLE_DEVICES" >> {record}
  sleep {delay}
  {refusal}
  [ ! -e "$pipe/control" ] || {{ echo "An instance of this daemon is already running"; exit 1; }}
  sleep 600 &
  echo $! > "$pipe/control"
  echo $! >> {record}.started
  exit 0
fi
read command
echo "$command pipe=$pipe" >> {record}
if ! kill -0 "$(cat "$pipe/control" 2>/dev/null)" 2>/dev/null; then
  echo "Cannot find MPS control daemon process"
  exit 1
fi
if [ "$command" = quit ]; then kill "$(cat "$pipe/control")"; rm "$pipe/control"; fi
"""


class Card:
    """The stand-ins in a folder, and what the service was told.

    Args:
      folder: short, as the service's own folders lie in it. count: of cards. free: MiB of each. service: is it
        installed? delay: seconds that it takes to start. refusal: shell, before it does. mig: are the cards divided?
      instances: how many each is divided into, as far as the listing tells.
    """

    def __init__(self, folder: pathlib.Path, count=1, free=143000, service=True, delay=0.0, refusal="", mig=False,
                 instances=0):
        self.folder, self._record = folder, folder / "record"
        self.default = folder / "default"
        for name in ("bin", "site/jax_cuda12_plugin", "default", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "site/jax_cuda12_plugin/__init__.py").touch()
        (folder / "default/libcuda.so.1").touch()  # no driver: the machine's own isn't found
        indices = " ".join(map(str, range(count)))
        self._script("nvidia-smi", _LISTING.format(indices=indices, free=free, mig="Enabled" if mig else "Disabled",
                                                  instances=" ".join(map(str, range(instances)))))
        if service:
            self._script("nvidia-cuda-mps-control", _SERVICE.format(record=self._record, default=self.default,
                                                                    delay=delay, refusal=refusal))
        kept = {name: text for name, text in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS")
                and not name.startswith(("CUDA_MPS", "XLA_"))}
        root = pathlib.Path(__file__).resolve().parents[1]
        self.environment = {**kept, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(folder / "tmp"),
                            "LD_LIBRARY_PATH": str(folder / "default"),
                            "PYTHONPATH": f"{root}:{folder / 'site'}"}

    def _script(self, name, text):
        (self.folder / "bin" / name).write_text(text)
        (self.folder / "bin" / name).chmod(0o755)

    def told(self, what=("-d", "quit")):
        """The calls that start or end the service, in order."""
        lines = self._record.read_text().splitlines() if self._record.exists() else []
        return [line for line in lines if line.split()[0] in what]

    def alive(self):
        """The services that run."""
        file = self._record.with_name("record.started")
        return [int(number) for number in file.read_text().split() if _runs(int(number))] if file.exists() else []

    def folders(self):
        """What the sweeps' own services have left."""
        return sorted(path.name for path in (self.folder / "tmp").glob("*mps*"))


def _runs(process):
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
