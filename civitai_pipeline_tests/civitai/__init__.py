"""Tests of the HTTP client, over real HTTP to the stand-in."""
