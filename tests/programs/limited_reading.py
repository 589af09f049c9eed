"""An array read by TensorStore where no file can be opened ('full'), or where what describes it is 'damaged'.

Prints the folder, the type of the error and its text.
"""

import pathlib
import resource
import sys
import tempfile

import numpy as np
import tensorstore as ts

if __name__ == "__main__":
    folder = tempfile.mkdtemp() + "/UNAVAILABLE"  # a name that could be taken for a message
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    shape = {"shape": [4], "chunks": [4], "dtype": "<f4"}
    ts.open({**spec, "metadata": shape}, create=True).result().write(np.ones(4, "f4")).result()
    if sys.argv[1] == "full":
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    else:
        pathlib.Path(folder, ".zarray").write_text("damaged")
    try:
        ts.open(spec, context=ts.Context()).result()
    except Exception as error:
        print(folder, type(error).__name__, " ".join(str(error).split()))
