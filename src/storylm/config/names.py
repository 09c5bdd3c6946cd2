"""Names that are short, and still tell what they name apart."""

from collections.abc import Sequence


def short_names(names: Sequence[str]) -> list[str]:
    """As few of the last parts of each path, or id of the Hub, as tell them apart.

    >>> short_names(["/home/me/runs/first", "someone/model"])
    ['first', 'model']
    >>> short_names(["someone/model", "other/model"])
    ['someone/model', 'other/model']
    """
    parts = [name.replace("\\", "/").rstrip("/").split("/") for name in names]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        shorts = ["/".join(of[-depth:]) for of in parts]
        if len(set(shorts)) == len(shorts):
            return shorts
    return list(names)
