"""The console: the built files of its page, and what the page asks of the server."""
