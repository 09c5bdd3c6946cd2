"""Errors meant for people: shown as one line without a traceback, each kind with its own exit code.

A message says what is wrong, which value, and what to try:

    prompt is 612 tokens but the model's context is 512: shorten it, or pass --truncate left
"""


class UserError(Exception):
    """Something the user can put right. `exit_code` is what the command line returns."""

    exit_code = 2


class UsageError(UserError, ValueError):
    """A setting, an argument or a prompt that cannot be used as given (exit code 2)."""

    exit_code = 2


class DataError(UserError):
    """Stories, shards or tokenizers that are missing, empty or damaged (exit code 3)."""

    exit_code = 3


class SetupError(UserError):
    """The machine lacks something: a package, a compiler, a device, memory, disk space (exit code 4)."""

    exit_code = 4


class CheckpointError(UserError):
    """A model folder or checkpoint that is missing, damaged or of another model (exit code 5)."""

    exit_code = 5
