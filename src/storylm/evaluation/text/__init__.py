"""Judging stories by rule: one idea a file, each with the table of its metrics; `judge.py` puts them together."""
