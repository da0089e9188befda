"""A server inside of a Python program: in a notebook, a test, a script, or an application.

    import servable

    with servable.serve("models/half_plus_two") as server:
        print(server.url, server.predict([1, 2, 5]))

``server.py`` is what users see; ``models.py`` finds out what is to be served, and ``exporting.py`` makes
SavedModels of objects; ``configuration.py`` turns flags into a configuration; ``running.py`` starts and ends
a server beside the program; ``changing.py`` loads and unloads while it runs; ``outcomes.py`` knows which
models do not serve, and why; ``prediction.py`` asks it without a socket; ``process.py`` knows of forks,
``logs.py`` of the log, ``display.py`` how it looks. ARCHITECTURE.md has the rest.
"""

from __future__ import annotations

from servable.embedded.server import Server, serve, serve_async

__all__ = ["Server", "serve", "serve_async"]
