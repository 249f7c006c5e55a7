"""The documents say what is so: every name in them exists, and everything that must be explained is."""
