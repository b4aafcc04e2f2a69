"""What every architecture of the registry promises; one fixture a module compiles it once."""

from collections.abc import Callable

import contract
import helpers
import pytest
from helpers import Model

#: Name of an architecture, and whether its compressed form is meant.
FORMS = [(name, False) for name in helpers.registered()]
FORMS += [(name, True) for name in helpers.COMPRESSIBLE]
CHECKS = [value for name, value in vars(contract).items() if name.startswith("check_")]


@pytest.fixture(
    scope="module", params=FORMS, ids=lambda form: form[0] + (" compressed" if form[1] else "")
)
def model(request: pytest.FixtureRequest) -> Model:
    """A small model of each architecture with random parameters."""
    name, compressed = request.param
    tolerance = helpers.EQUIVARIANCE_TOLERANCE.get(name, 1e-9)
    return Model(helpers.small(name), tolerance, compressed=compressed)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(model: Model, check: Callable[[Model], None]) -> None:
    check(model)
