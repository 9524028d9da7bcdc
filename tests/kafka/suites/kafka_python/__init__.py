"""Makes kafka-python's `test` a package of its own: Python has one of that name too."""
