"""Molecular dynamics with JAX-MD: integrators, engine, trajectories, observables."""
