"""Tables as functions of pages: folds the ledger's pages through ``prompts`` into the lake's tables.

Uses ``lake`` and ``prompts``; knows neither HTTP nor Dagster.
"""
