"""What the six distributions say of themselves, and that they say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import wsnas
from wsnas.cli import main

ROOT = Path(__file__).parents[1]
PROJECTS = sorted([ROOT / "shared/pyproject.toml", *ROOT.glob("packages/*/pyproject.toml")])

if not (ROOT / "noxfile.py").exists():
    pytest.skip("not a checkout", allow_module_level=True)


def described(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(path.read_text())["project"]
    return found


def test_versions_are_in_step() -> None:
    """Of the code, of every distribution and the core each needs, and of the citation."""
    assert len(PROJECTS) == 6
    for path in PROJECTS:
        project = described(path)
        assert project["version"] == wsnas.__version__
        needed = [one for one in project["dependencies"] if re.match(r"wsnas\b", one)]
        assert needed == ([] if path.parent.name == "shared" else [f"wsnas=={wsnas.__version__}"])
    assert f"\nversion: {wsnas.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert wsnas.__version__ in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_a_distribution_says_what_an_index_shows(path: Path) -> None:
    project = described(path)
    assert project["license"] == "MIT"
    assert project["authors"]
    assert project["urls"]["Paper"].startswith("https://")
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= {*project["classifiers"]}
    for file in project["license-files"]:
        assert (path.parent / file).read_text() == (ROOT / "LICENSE").read_text()
    readme = (path.parent / project["readme"]).read_text()
    assert readme.startswith(f"# {project['name']}\n")
    assert "](docs" not in readme  # no link that leads nowhere on an index


def test_every_study_is_a_command() -> None:
    """Its help is the script's, and the list says what each asks."""
    names = sorted(path.stem for path in (ROOT / "studies").glob("*.py"))
    listed = CliRunner().invoke(main, ["study", "--help"])
    assert listed.exit_code == 0, listed.output
    assert [line.split()[0] for line in listed.output.splitlines() if re.match(r"  \w+  ", line)] == names
    shown = CliRunner().invoke(main, ["study", "capacity", "--help"])
    assert shown.exit_code == 0, shown.output
    assert "--factor" in shown.output
    wrong = CliRunner().invoke(main, ["study", "capcity"])
    assert wrong.exit_code == 2
    assert "did you mean 'capacity'?" in wrong.output


def test_the_core_takes_the_studies_along() -> None:
    """The build hook puts every script into wheel and source distribution, from a checkout and from unpacked source."""
    hatchling = pytest.importorskip("hatchling")
    assert hatchling is not None
    import runpy

    hook = runpy.run_path(str(ROOT / "shared/hatch_build.py"))["Studies"]
    for target, folder in (("wheel", "wsnas/studies/packaged"), ("sdist", "studies")):
        data: dict[str, Any] = {"force_include": {}}
        hook(str(ROOT / "shared"), {}, None, None, "", target).initialize("standard", data)
        names = {f"{folder}/{path.name}" for path in (ROOT / "studies").glob("*.py")}
        assert {*data["force_include"].values()} == names
