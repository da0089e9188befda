"""Which versions are served: what is aspired to, what is loaded, and when."""
