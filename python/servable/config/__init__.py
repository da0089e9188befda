"""Flags, environment and files → the frozen values that a server is built from."""
