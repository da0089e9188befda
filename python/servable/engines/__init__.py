"""The engines: what a version's folder holds for each (``formats``), and the library that each needs.

``tensorflow_library`` finds and opens TensorFlow's. Which engine runs a version, the core decides.
"""
