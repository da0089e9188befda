"""A running server: composition, ports, and log messages."""
