"""Dagster's side: one module per Dagster noun, which only wires the packages beside it.

What a prompt, a page or a table is belongs to those packages; nothing here decides it.
"""
