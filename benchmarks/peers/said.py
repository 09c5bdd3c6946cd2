"""What a process said that failed."""


def last_words(stderr: str) -> str:
    """Why it failed: storylm's message, which may go over several lines, or the last line."""
    before, message, why = stderr.rpartition("storylm: ")
    if message and (not before or before.endswith("\n")):
        return message + " ".join(why.split())
    return (stderr.strip().splitlines() or ["no message"])[-1]
