"""Upkeep: when to launch what, so that collections go on, stay fresh and heal without anybody looking.

Decisions over plain data. Nothing here knows Dagster or sends a request; ``standing`` alone reads the lake.
"""
