"""What every architecture of the registry promises; one fixture a module compiles it once."""

from collections.abc import Callable

import helpers
import pytest
from helpers import Model

CHECKS = [value for name, value in vars(helpers).items() if name.startswith("check_")]


@pytest.fixture(scope="module", params=helpers.registered())
def model(request: pytest.FixtureRequest) -> Model:
    """A small model of each architecture with random parameters."""
    name = request.param
    return Model(helpers.small(name), helpers.EQUIVARIANCE_TOLERANCE.get(name, 1e-9))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(model: Model, check: Callable[[Model], None]) -> None:
    check(model)
