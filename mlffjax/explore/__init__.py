"""Exploring the energy surface: relaxation, minima hopping, paths, vibrations."""
