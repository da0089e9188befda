"""The versions served: their conditions, and the manager that loads and unloads them."""
