"""What ``servable doctor`` looks at: whether this machine will serve, what will hurt, and what to do.

Checks only look: nothing is installed, changed or left behind. Each takes what it depends on as arguments,
the root of ``/proc`` and ``/sys`` among them; each module ends with the list of its own.
"""
