"""What a file or a folder is that is not served as it is, told by its content, and what to do with it.

``recognise`` asks one recogniser after another (``recognisers.py``, the one list). Each is a function of a
``Look``, whose reads are bounded: no file, however large or hostile, takes long or much memory. Nothing is
unpacked, unpickled or run.
"""
