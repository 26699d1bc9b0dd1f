"""Arrays and data frames become plain values that depend on nothing but dtype, shape, schema and elements.

Memory layout, chunks, blocks and padding bytes leave no trace, every NaN is the same NaN, and no library is imported:
an array comes from a library that is loaded already, and polars' columns are read in one way with and without numpy.
"""

from __future__ import annotations

import array
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


_NAN = float("nan")
_LONGEST_FLOAT = 8


def _ndarray(value: Any) -> dict[str, Any]:
    plain = sys.modules["numpy"].asarray(value)
    return {"dtype": _dtype(plain.dtype), "shape": plain.shape, "items": _elements(plain)}


def _masked_array(value: Any) -> dict[str, Any]:
    numpy = sys.modules["numpy"]
    mask = numpy.ma.getmaskarray(value)
    return {"data": numpy.ma.getdata(value), "mask": mask, "fill_value": numpy.asarray(value.fill_value)}


def _dtype(dtype: Any) -> Any:
    if dtype.names is not None:
        return tuple((name, _dtype(dtype[name])) for name in dtype.names)
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return (_dtype(base), shape)
    return dtype.str


def _elements(plain: Any) -> Any:
    dtype = plain.dtype
    if dtype.names is not None:
        return tuple(_elements(plain[name]) for name in dtype.names)
    flat = plain.reshape(-1)
    if dtype.kind in "OT":
        return flat.tolist()
    if dtype.kind in "fc":
        width = dtype.itemsize // (2 if dtype.kind == "c" else 1)
        if width > _LONGEST_FLOAT:  # long doubles carry padding bytes that nobody initialises
            return [str(number) for number in flat]
        return _bytes_of(_with_one_nan(_contiguous(flat).view(f"{dtype.byteorder}f{width}")))
    return _bytes_of(_contiguous(flat))


def _contiguous(flat: Any) -> Any:
    return flat if flat.flags.c_contiguous else flat.copy()


def _with_one_nan(numbers: Any) -> Any:
    missing = numbers != numbers  # noqa: PLR0124 -- only NaN differs from itself
    if missing.any():
        numbers = numbers.copy()
        numbers[missing] = _NAN
    return numbers


def _bytes_of(flat: Any) -> Any:
    return flat.view("u1").data if flat.nbytes else b""


def _frame(value: Any) -> dict[str, Any]:
    columns = [_extension_array(value.iloc[:, position].array) for position in range(value.shape[1])]
    return {"columns": value.columns, "index": value.index, "values": columns, "attrs": value.attrs}


def _series(value: Any) -> dict[str, Any]:
    return {"name": value.name, "index": value.index, "values": _extension_array(value.array), "attrs": value.attrs}


def _index(value: Any) -> dict[str, Any]:
    frequency = getattr(value, "freqstr", None)
    return {"names": list(value.names), "values": _extension_array(value.array), "frequency": frequency}


def _range_index(value: Any) -> tuple[Any, ...]:
    return (value.start, value.stop, value.step, value.name)


def _multi_index(value: Any) -> dict[str, Any]:
    levels = [_extension_array(value.get_level_values(position).array) for position in range(value.nlevels)]
    return {"names": list(value.names), "values": levels}


def _extension_array(values: Any) -> Any:
    dtype = values.dtype
    kinds = {kind.__name__ for kind in type(dtype).__mro__}
    if "CategoricalDtype" in kinds:
        return {"dtype": dtype, "codes": values.codes}
    if "DatetimeTZDtype" in kinds:
        return {"dtype": str(dtype), "values": _extension_array(values.tz_convert("UTC").tz_localize(None))}
    if "BaseMaskedDtype" in kinds:
        present = values.to_numpy(dtype=dtype.numpy_dtype, na_value=0)
        return {"dtype": str(dtype), "values": present, "missing": values.isna()}
    if "PeriodDtype" in kinds:
        return {"dtype": str(dtype), "values": values.asi8}
    if "ExtensionDtype" in kinds and "NumpyEADtype" not in kinds:
        return {"dtype": str(dtype), "values": list(values)}
    return sys.modules["numpy"].asarray(values)


# polars' own buffers hold garbage in the place of nulls, so numbers are read through lists.
_TYPECODES = {
    "Boolean": "b", "Int8": "b", "Int16": "h", "Int32": "i", "Int64": "q",
    "UInt8": "B", "UInt16": "H", "UInt32": "I", "UInt64": "Q", "Float32": "f", "Float64": "d",
}  # fmt: skip
_TEMPORAL = {"Date", "Datetime", "Duration", "Time"}


def _polars_series(value: Any) -> dict[str, Any]:
    described = {"name": value.name, "dtype": repr(value.dtype), "length": len(value)}
    physical = value.to_physical() if value.dtype.base_type().__name__ in _TEMPORAL else value
    kind = physical.dtype.base_type().__name__
    if kind not in _TYPECODES:
        return {**described, "values": value.to_list()}
    nulls = bytes(physical.is_null().to_list()) if physical.null_count() else b""
    filled = physical.fill_null(value=False if kind == "Boolean" else 0)
    if kind.startswith("Float"):
        filled = filled.fill_nan(_NAN)
    return {**described, "nulls": nulls, "values": memoryview(array.array(_TYPECODES[kind], filled.to_list()))}


def _polars_frame(value: Any) -> dict[str, Any]:
    return {"height": value.height, "columns": value.get_columns()}


def _tensor(value: Any) -> dict[str, Any]:
    # what a tensor pickles holds addresses, which differ in every process
    items = value.detach().cpu().flatten().tolist()
    return {"dtype": str(value.dtype), "shape": tuple(value.shape), "items": items}


ARRAY_REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "numpy:ndarray": _ndarray,
    "numpy:generic": _ndarray,
    "numpy:MaskedArray": _masked_array,
    "numpy:dtype": _dtype,
    "numpy:ufunc": lambda value: value.__name__,
    "pandas:DataFrame": _frame,
    "pandas:Series": _series,
    "pandas:Index": _index,
    "pandas:RangeIndex": _range_index,
    "pandas:MultiIndex": _multi_index,
    "pandas:ExtensionArray": _extension_array,
    "pandas:CategoricalDtype": lambda value: (value.categories, value.ordered),
    "pandas:ExtensionDtype": str,
    "pandas:Timestamp": lambda value: (value.asm8, value.tzinfo, value.fold),
    "pandas:Timedelta": lambda value: value.asm8,
    "pandas:NaTType": lambda _: "NaT",
    "pandas:NAType": lambda _: "NA",
    "pandas:Period": lambda value: (value.ordinal, value.freqstr),
    "pandas:Interval": lambda value: (value.left, value.right, value.closed),
    "polars:DataFrame": _polars_frame,
    "polars:Series": _polars_series,
    "polars:DataType": repr,
    "torch:Tensor": _tensor,
}
