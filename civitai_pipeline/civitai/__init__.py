"""Speaks HTTP to the CivitAI API: client, listings and cursors, failure classes, typed payloads.

Nothing here knows files, tables or Dagster.
"""
