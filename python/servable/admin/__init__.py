"""The administration: its HTTP API and its operations."""
