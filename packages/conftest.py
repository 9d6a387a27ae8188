"""Shared by the tests of the packages. Without torch: the process that only starts pytest's workers reads it, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import nn


@pytest.fixture
def scrambled() -> Callable[[nn.Module], nn.Module]:
    """Gives batch norms scales, shifts and statistics other than their initial ones, so mistakes would show."""
    from torch import nn

    def scramble(model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        return model

    return scramble
