"""Keeping: how large the lake is, and copies of it that bring it back.

Files in, files out, over ``lake``. Nothing here knows Dagster or sends a request. What puts pages of one lake into
another, counting their items anew, is in ``imports``; when to launch what, in ``upkeep``.
"""
