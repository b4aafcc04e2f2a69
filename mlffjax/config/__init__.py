"""Schemas of the YAML files."""
