"""From flags, environment and files to the frozen values that a server is built from."""
