"""The arrows between modules point one way, as docs/architecture.md says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "shared/src/wsnas"
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))

if not (ROOT / "docs").exists():
    pytest.skip("not a checkout", allow_module_level=True)


def imports(file: Path) -> set[str]:
    """Every module that the file imports, anywhere in it: ``a.b`` for ``from a import b`` where that is a module."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {part for part in parts if (CORE.parent / (part.replace(".", "/") + ".py")).exists()} or {
                node.module
            }
    return found


def rooms() -> list[str]:
    """The modules in the order of the table."""
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+`) \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]


def test_the_table_lists_every_module_once() -> None:
    files = [path.relative_to(CORE).with_suffix("") for path in CORE.rglob("*.py") if not path.stem.startswith("__")]
    assert sorted(rooms()) == sorted(".".join(file.parts) for file in files)


@pytest.mark.parametrize("module", rooms())
def test_a_module_imports_only_what_is_listed_before_it(module: str) -> None:
    order = [f"wsnas.{name}" for name in rooms()]
    used = {name for name in imports(CORE / (module.replace(".", "/") + ".py")) if name.split(".")[0] == "wsnas"}
    below = order[: order.index(f"wsnas.{module}")]
    assert used <= {*below}, used - {*below}


def test_a_package_knows_the_core_and_itself() -> None:
    below_options = {f"wsnas.{name}" for name in rooms()[: rooms().index("options")]} | {"wsnas"}
    assert PACKAGES
    for package in PACKAGES:
        for file in ROOT.glob(f"packages/{package}/src/**/*.py"):
            used = imports(file)
            assert {name for name in used if name.split(".")[0] == "wsnas"} <= below_options, file
            assert not {name.split(".")[0] for name in used} & ({*PACKAGES} - {package}), file


def test_studies_do_without_the_command_line_and_each_other() -> None:
    scripts = list(ROOT.glob("studies/*.py"))
    assert scripts
    for file in scripts:
        assert not imports(file) & {"wsnas.cli", *(other.stem for other in scripts)}, file


def test_the_instrument_names_no_space() -> None:
    """Below ``options``, no file contains the name of a package; what is specific to a space stays in its package."""
    for name in rooms()[: rooms().index("options")]:
        text = (CORE / (name.replace(".", "/") + ".py")).read_text()
        assert not [package for package in PACKAGES if re.search(rf"\b{package}\b", text)], name
