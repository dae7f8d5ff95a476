from pathlib import Path

import pytest
import yaml

#: Two small tasks, few tokens, few pairs: a real run in seconds.
TINY = {
    "best_of_n": {
        "tasks": [4, 12],
        "seeds": [1, 2],
        "k": 6,
        "temperature": 0.7,
        "max_new_tokens": 24,
        "prompts_per_batch": 1,
        "examples": [16],
        "evaluator": {"sound": {"min_pairs": 6, "max_pairs": 6, "warmup": 0}, "published": {"timing_trials": 2}},
    }
}


@pytest.fixture(scope="session")
def tiny_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("params") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path
