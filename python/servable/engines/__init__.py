"""Where the library of an engine is, and what it needs."""
