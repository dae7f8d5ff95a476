"""What a confined process needs of the file system to use one GPU, and to compile for it: device nodes and folders.

Looked up by a trusted process before it gives up its files (`sandbox.leave_files`). It knows nothing of candidates.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

#: Nodes that every process with a GPU opens: the driver's own, and those of managed memory (that of its tools since
#: driver 570: without it CUDA ends with error 304).
_SHARED_NODES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
#: What the driver looks up of the machine, beyond what every process may read.
_DRIVER_FOLDERS = ("/sys/devices", "/sys/bus/pci", "/sys/module", "/sys/class", "/etc/nvidia")
#: Where compilers are, before PATH's usual folders.
_INTERPRETER = Path(sys.executable).parent


def device_nodes(bus: str, dev: Path = Path("/dev"), proc: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """Nodes of the GPU at PCI address ``bus`` (``0000:18:00.0``); of all GPUs where the driver does not say which.

    ``dev`` and ``proc`` are where the system shows its devices and the driver its GPUs.
    """
    shared = [str(dev / name) for name in _SHARED_NODES]
    numbered = sorted(dev.glob("nvidia[0-9]*"))
    try:
        information = (proc / bus / "information").read_text()
        minor = next(
            line.split(":", 1)[1].strip() for line in information.splitlines() if line.startswith("Device Min")
        )
        mine = [node for node in numbered if node.name == f"nvidia{minor}"]
    except (OSError, StopIteration):
        mine = []
    return [*shared, *map(str, mine or numbered)]


def driver_folders(maps: Path = Path("/proc/self/maps")) -> list[str]:
    """Folders that the driver reads, that of libcuda included (which has been loaded: it is among ``maps``)."""
    loaded = [line.split(maxsplit=5)[5] for line in maps.read_text().splitlines() if "libcuda.so" in line]
    return [*_DRIVER_FOLDERS, *sorted({os.path.dirname(path) for path in loaded})]


def compiling_for(capability: tuple[int, int], jobs: int, folders: list[str]) -> dict[str, str]:
    """Environment in which extensions and Triton compile for one GPU: where things are, for what, how many at once.

    ``capability`` as in (9, 0); ``folders`` are `driver_folders`. CUDA_HOME is set already, where there is a toolkit.
    """
    ninja = importlib.util.find_spec("ninja")
    packaged = (
        [os.path.join(place, "data", "bin") for place in (ninja.submodule_search_locations or ())] if ninja else []
    )
    toolkit = os.environ.get("CUDA_HOME")
    path = [*([f"{toolkit}/bin"] if toolkit else []), str(_INTERPRETER), *packaged, "/usr/local/bin", os.defpath]
    found = {
        "PATH": os.pathsep.join(path),
        "MAX_JOBS": str(jobs),
        "TORCH_CUDA_ARCH_LIST": "{}.{}".format(*capability),
    }
    if libraries := [folder for folder in folders if os.path.exists(os.path.join(folder, "libcuda.so.1"))]:
        found["TRITON_LIBCUDA_PATH"] = libraries[0]
    return found
