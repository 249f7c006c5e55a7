"""Tests of what verifies and mends a lake."""
