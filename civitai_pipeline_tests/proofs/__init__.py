"""Proofs that collection never lies: every failure, a long walk full of faults, and kills at random moments.

Each module runs on its own (``python -m civitai_pipeline_tests.proofs.<name>``) and prints what it found; a
short form of each is among the tests.
"""
