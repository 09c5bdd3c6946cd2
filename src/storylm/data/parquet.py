"""Stories in parquet files, one row group at a time. Needs the extra `parquet` (pyarrow)."""

from collections.abc import Iterator
from itertools import accumulate
from typing import IO, Any

from storylm.config.errors import DataError, SetupError
from storylm.data.json_records import TEXT_COLUMNS, value_record
from storylm.data.records import Record
from storylm.data.streams import DamagedFileError, decode

_BATCH_ROWS = 1024


def read_parquet(
    stream: IO[bytes],
    name: str,
    column: str | None,
    rows: tuple[int, int | None] | None,
    share: tuple[int, int],
) -> Iterator[Record]:
    """The text column's rows; other columns are not read. `share` (i, n): the i-th of n equal runs of row groups.

    Raises:
        SetupError: pyarrow is not installed.
        DataError: the file has no such column.
    """
    need_pyarrow(name)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(stream)
        column = _text_column(file.schema_arrow.names, column, name)
        kinds = pa.types
        text_type = file.schema_arrow.field(column).type
        as_bytes = any(is_it(text_type) for is_it in (kinds.is_string, kinds.is_large_string, kinds.is_string_view))
        groups = file.metadata.num_row_groups
        starts = [0, *accumulate(file.metadata.row_group(group).num_rows for group in range(groups))]
        first, stop = rows or (0, None)
        piece, pieces = share
        for group in range(groups * piece // pieces, groups * (piece + 1) // pieces):
            if starts[group + 1] <= first or (stop is not None and starts[group] >= stop):
                continue
            row = starts[group]
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[column]):
                values = batch.column(0)
                # As bytes: pyarrow does not check that a string column is UTF-8.
                for value in (values.cast(pa.large_binary()) if as_bytes else values).to_pylist():
                    if row >= first and (stop is None or row < stop):
                        yield _row(value, column, f"{name}, row {row}")
                    row += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamagedFileError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def need_pyarrow(name: str) -> None:
    """Raise `SetupError` if pyarrow, and so the file `name`, cannot be read."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise SetupError(f"{name} is parquet: reading it needs pyarrow: pip install 'storylm[parquet]'") from error


def _text_column(names: list[str], column: str | None, file: str) -> str:
    wanted = (column,) if column else TEXT_COLUMNS
    for name in wanted:
        if name in names:
            return name
    raise DataError(
        f"{file} has no column {' or '.join(wanted)}: name the text column with ?column=, one of {', '.join(names)}"
    )


def _row(value: Any, column: str, where: str) -> Record:
    problem = None
    if isinstance(value, bytes):
        value, problem = decode(value)
    return value_record({column: value}, column, where, problem)
