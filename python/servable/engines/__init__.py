"""Finds the library of an engine and its dependencies."""
