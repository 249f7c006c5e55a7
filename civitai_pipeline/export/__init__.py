"""Exports: prompts of the lake written for use elsewhere, as one file or a folder.

Knows no HTTP and no Dagster. Reads the lake's tables; ``prompts`` says what a clean prompt is.
"""
