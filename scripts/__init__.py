"""The operators' entry points: each module with a ``main`` is a command of its own."""
