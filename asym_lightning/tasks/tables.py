"""Rows of Arrow tables; a column is read only if a cell of it is asked for."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import pyarrow as pa

from asym_lightning.tasks.cells import DOUBLED, UnreadableCell

ReadColumn = Callable[[str], Sequence[Any]]
# Types of columns with numbers of less precision than Python's: 0.1 would become 0.10000000149.
_NARROW = re.compile(r"\b(half)?float\b")


class Row(Mapping[str, Any]):
    """One row of a table."""

    def __init__(self, names: Mapping[str, None], column: ReadColumn, index: int):
        self._names, self._column, self._index = names, column, index

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._column(name)[self._index]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def lazy_rows(names: Sequence[str], count: int, column: ReadColumn) -> list[Row]:
    """Return the rows of a table of ``count`` rows whose columns ``column`` reads."""
    distinct, cached = dict.fromkeys(names), cache(column)
    return [Row(distinct, cached, index) for index in range(count)]


def table_rows(table: pa.Table) -> list[Row]:
    """Return the rows of an Arrow table."""
    names = table.column_names

    def column(name: str) -> Sequence[Any]:
        if names.count(name) > 1:
            return [DOUBLED] * len(table)
        return values(table.column(name))

    return lazy_rows(names, len(table), column)


def dataset_rows(dataset: Any) -> list[Row]:
    """Return the rows of a ``datasets.Dataset``."""

    def column(name: str) -> Sequence[Any]:
        part = dataset.select_columns([name])
        # JSON is decoded by ``datasets`` alone; images and sounds need not be decoded.
        if "extension<" not in str(part.features.arrow_schema.field(name).type):
            return values(part.with_format("arrow")[:].column(name))
        try:
            return list(part[name])
        except Exception:
            return [_dataset_cell(part, index, name) for index in range(len(part))]

    return lazy_rows(dataset.column_names, len(dataset), column)


def _dataset_cell(dataset: Any, index: int, name: str) -> Any:
    try:
        return dataset[index][name]
    except Exception as error:
        return unreadable(error)


def values(column: pa.ChunkedArray) -> list[Any]:
    """Return a column as Python values, ``UnreadableCell`` for those that Python cannot hold."""
    if not _NARROW.search(str(column.type)):
        try:
            return list(column.to_pylist())
        # A value that is not valid: of text, of dates, of nested types; each with its own error.
        except Exception:
            pass
    return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return _python(scalar)
    except Exception as error:
        return unreadable(error)


def unreadable(error: Exception) -> UnreadableCell:
    """Return the cell for an error of the library that reads it."""
    lines = str(error).strip().splitlines() or [""]
    return UnreadableCell(f"{type(error).__name__}: {lines[0][:200]}")


def _python(scalar: pa.Scalar) -> Any:
    """Return a value of Arrow as one of Python; bytes of a text that are not UTF-8 are kept."""
    if not scalar.is_valid:
        return None
    if isinstance(scalar, pa.StructScalar):
        return {name: _value(value) for name, value in scalar.items()}
    if isinstance(scalar, pa.ListScalar) and not isinstance(scalar, pa.MapScalar):
        return [_value(value) for value in scalar.values]
    if isinstance(scalar, pa.StringScalar):
        return scalar.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")
    if pa.types.is_float16(scalar.type) or pa.types.is_float32(scalar.type):
        # The shortest digits that lead back to the same number.
        return Decimal(str(scalar.type.to_pandas_dtype()(scalar.as_py())))
    return scalar.as_py()
