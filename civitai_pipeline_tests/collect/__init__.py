"""Tests of the walk, over real HTTP against the stand-in and with real files."""
