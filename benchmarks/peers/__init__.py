"""Contenders that train the same model on the same tokens, each in a process of its own."""
