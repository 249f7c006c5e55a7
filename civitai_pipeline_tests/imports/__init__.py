"""Older databases and other lakes, imported into real lakes."""
