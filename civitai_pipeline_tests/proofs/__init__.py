"""Proofs that collection never lies and harms nobody: every failure, a long walk full of faults, kills at random
moments, hostile items, and a key that must not get out.

Each module runs on its own (``python -m civitai_pipeline_tests.proofs.<name>``) and prints what it found; a
short form of each is among the tests.
"""
