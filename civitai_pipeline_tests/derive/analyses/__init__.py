"""Tests of the tables of analyses."""
