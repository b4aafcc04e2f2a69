"""Settings without meaning are refused where an architecture is constructed."""

from typing import ClassVar

import pytest

from mlffjax.models import ARCHITECTURES, Architecture, build, describe, hyperparameters

COMMON = [
    ({"cutoff": 0.0}, "got cutoff 0.0; expected a positive number"),
    ({"cutoff": -1.0}, "got cutoff -1.0"),
    ({"cutoff": float("nan")}, "got cutoff nan"),
    ({"avg_num_neighbors": 0.0}, "got avg_num_neighbors 0.0"),
    ({"num_elements": 0}, "got num_elements 0; expected at least 1"),
]


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize(("settings", "message"), COMMON)
def test_common_settings(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build(name, settings)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_integers_are_not_negative(name):
    integers = [key for key, value in describe(build(name, {}))[1].items() if type(value) is int]
    assert "num_elements" in integers
    for key in integers:
        with pytest.raises(ValueError, match=f"got {key} -1; expected at least "):
            build(name, {key: -1})


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("alphanet", {"num_heads": 0}, "got num_heads 0"),
        ("equiformer_v2", {"num_heads": 0}, "got num_heads 0"),
        ("equiformer_v2", {"max_neighbors": 0}, "got max_neighbors 0"),
        ("equiformer_v2", {"alpha_drop": 1.5}, "got alpha_drop 1.5; expected from 0"),
        ("equiformer_v2", {"norm": "layer"}, "got norm 'layer'; expected one of separable"),
        ("equiformer_v2", {"grid_rule": "even"}, "got grid_rule 'even'"),
        ("equiformer_v2", {"max_degree": 1}, "got max_order 2; expected between 0 and max_degree"),
        ("equiformer_v2", {"num_basis": 1}, "got num_basis 1; expected at least 2"),
        ("equiformer_v2", {"avg_num_atoms": 0.0}, "got avg_num_atoms 0.0"),
        (
            "equiformer_v2",
            {"force_head": "direct", "max_degree": 0, "max_order": 0},
            "got force_head 'direct' with max_degree 0; expected at least 1",
        ),
        ("leignn", {"num_radial": 1}, "got num_radial 1; expected at least 2"),
        ("leignn", {"norm_rounding": 0.0}, "got norm_rounding 0.0"),
        ("mace", {"envelope_power": -2}, "got envelope_power -2"),
        ("mace", {"radial_widths": [64, 0]}, r"got radial_widths \(64, 0\)"),
        ("nequip", {"max_degree": -1}, "got max_degree -1; expected at least 0"),
        ("painn", {"norm_rounding": 0.0}, "got norm_rounding 0.0"),
        ("painn", {"num_features": 7}, "got 7 features"),
        ("schnet", {"num_basis": 1}, "got num_basis 1; expected at least 2"),
        ("schnet", {"num_features": 0}, "got num_features 0"),
        ("so3krates", {"num_features": 3}, "got 3 features; expected at least 4"),
        ("so3krates", {"num_heads": 0}, "got num_heads 0"),
        ("so3krates", {"degrees": [-1, 2]}, r"got degrees \(-1, 2\); expected at least 0"),
    ],
)
def test_settings_of_one_architecture(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build(name, settings)


class Shells(Architecture):
    may_be_zero: ClassVar[tuple[str, ...]] = ("extra",)

    extra: tuple[int, ...] = (1, 0)
    border: int = 2


def test_what_may_be_zero_is_declared_and_not_read_from_names():
    assert Shells().extra == (1, 0)
    for settings, message in (
        ({"extra": (0, -1)}, r"got extra \(0, -1\); expected at least 0"),
        ({"border": 0}, "got border 0; expected at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Shells(**settings)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_what_may_be_zero_is_a_field(name):
    cls = ARCHITECTURES[name]
    assert set(cls.may_be_zero) <= set(hyperparameters(cls))
