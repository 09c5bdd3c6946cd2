"""A clock that goes when told to."""


class Now:
    """In the place of `time.monotonic`."""

    seconds = 1e6

    def __call__(self) -> float:
        return self.seconds
