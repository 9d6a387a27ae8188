"""Puts the studies, which a checkout keeps beside this folder, into the core's wheel and source distribution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Studies(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # it finds them where they are
            return
        root = Path(self.root)
        here = root / "studies" if (root / "studies").is_dir() else root.parent / "studies"  # unpacked source, checkout
        where = "studies" if self.target_name == "sdist" else "wsnas/studies/packaged"
        build_data["force_include"] |= {str(one): f"{where}/{one.name}" for one in here.glob("*.py")}
