"""The administration: its HTTP, and its operations."""
