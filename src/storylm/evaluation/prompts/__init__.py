"""Prompt suites as YAML, written for storylm: `evaluation.suites` and `evaluation.instructions` read them."""
