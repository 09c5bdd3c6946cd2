"""Models in other programs' formats: each is derived from a model, and read back once it is written."""
