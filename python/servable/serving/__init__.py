"""A running server: composition, ports, and what it says in the log."""
