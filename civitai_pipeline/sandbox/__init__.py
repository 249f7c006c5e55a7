"""An embedded stand-in for the CivitAI API, for the demo, for development and for tests.

It speaks real HTTP on loopback, serves a seeded synthetic dataset or items from a file, and can be
told to misbehave in every way the real API has been seen to.
"""
