"""Connections to a server: its address, and calls over HTTP and gRPC, blocking or not."""
