"""The walk: an API client and a ledger in, landed pages and a run summary out.

Nothing here knows Dagster.
"""
