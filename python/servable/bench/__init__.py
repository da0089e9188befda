"""``servable bench``: load on a server of TensorFlow Serving's API or the Open Inference Protocol.

``target.py`` reads addresses; ``metadata.py`` asks what a model takes; ``values.py`` makes values, which
``tensorflow.py`` and ``v2.py`` write as requests; ``recorded.py`` and ``files.py`` take requests from
elsewhere, and ``payloads.py`` chooses among all of these. ``running.py`` has the core put a ``plan.py`` on
the server, and makes a ``sample.py`` of what became of it; ``process.py`` watches the server's process
meanwhile. ``search.py`` and ``statistics.py`` decide, and are pure. Needs neither TensorFlow nor numpy.
"""
