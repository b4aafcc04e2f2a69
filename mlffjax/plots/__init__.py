"""Figures: one function each, given numbers and a path."""
