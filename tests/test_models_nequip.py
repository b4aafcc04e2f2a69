"""NequIP: which features its layers have."""

import pytest
from contract import check_forces_are_gradient, check_rotation
from helpers import CUTOFF, Model, assert_finite
from systems import molecule

from mlffjax.models.nequip import NequIP, layer_irreps
from mlffjax.nn.tensor_product import Irrep


def labels(stages):
    return [" ".join(irrep.label for irrep in stage) for stage in stages]


def test_layers_have_the_features_that_exist_and_reach_the_energy():
    both = tuple(Irrep(degree, parity) for degree in (0, 1) for parity in (1, -1))
    assert labels(layer_irreps(both, 1, 6)) == [
        "0e",
        "0e 1o",
        "0e 1e 1o",
        "0e 0o 1e 1o",
        "0e 1e 1o",
        "0e 1o",
        "0e",
    ]


@pytest.mark.slow
def test_natural_parity_alone():
    module = NequIP(
        cutoff=CUTOFF,
        avg_num_neighbors=8.0,
        num_channels=3,
        max_degree=2,
        num_layers=2,
        both_parities=False,
        radial_widths=(6,),
    )
    model = Model(module)
    check_rotation(model)
    check_forces_are_gradient(model)
    _, gradient = model.force_loss(model.graph(molecule()))
    assert_finite(gradient, "gradient of a force loss")


def test_wrong_number_of_layers_is_refused():
    with pytest.raises(ValueError, match="got num_layers 0; expected at least 1"):
        NequIP(num_layers=0)
