"""Tests of the tables as functions of pages."""
