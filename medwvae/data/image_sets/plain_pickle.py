"""Reading a pickle of plain values and byte arrays, and nothing else: no code of the file's choosing can run."""

import io
import math
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medwvae.errors import InputError


class _StandIn:
    """Takes the place of what a pickle names.

    Every stand-in defines `__setstate__`: without it, unpickling would write attributes of the file's choosing.
    """

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a state where none belongs")


class _Dtype(_StandIn):
    """`numpy.dtype`, of bytes only."""

    __slots__ = ()

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        if code not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of {str(code)[:20]!r}, not of bytes")

    def __setstate__(self, state: Any) -> None:
        pass  # byte order and alignment of a byte


class _Array(_StandIn):
    """`numpy.ndarray` and what rebuilds one; NumPy itself takes no part."""

    __slots__ = ("values",)

    def __init__(self, *_: Any) -> None:
        self.values: NDArray[np.uint8] = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes) or math.prod(shape) != len(content):
            raise pickle.UnpicklingError("an array whose bytes do not fit its shape")
        self.values = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Encode(_StandIn):
    """`_codecs.encode`, with which Python 3 writes bytes for Python 2."""

    __slots__ = ()

    def __new__(cls, text: str, encoding: str) -> bytes:  # type: ignore[misc]
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError("text in an unexpected encoding")
        return text.encode("latin1")


class _NoBytes(_StandIn):
    """`bytes()`, as Python 3 writes the empty ones for Python 2."""

    __slots__ = ()

    def __new__(cls) -> bytes:  # type: ignore[misc]
        return b""


_KNOWN = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _Encode,
    ("__builtin__", "bytes"): _NoBytes,
}


# The one in Python, not the one in C: that one allocates what a damaged memo index asks for, tens of gigabytes.
class _PlainUnpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}"[:80])
        return _KNOWN[module, name]


def read_pickle(content: bytes, name: str) -> dict[str, Any]:
    """Read a pickled dictionary of numbers, bytes, lists and byte arrays, as Python 2 or 3 wrote it.

    Parameters
    ----------
    name : str
        What to call the file in an error.

    Returns
    -------
    dict
        Its keys as text; arrays as NumPy arrays, strings of Python 2 as bytes.

    Raises
    ------
    InputError
        If it is damaged, holds anything else, or names any function or class beyond those of a byte array. Nothing
        that it names is imported or called.
    """
    try:
        found = _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged stream raises whatever its opcodes run into
        why = str(error) if isinstance(error, pickle.UnpicklingError) else type(error).__name__
        raise InputError(f"{name}: damaged, or no pickle of plain arrays ({why}); download it again") from None
    if not isinstance(found, dict) or not all(isinstance(key, str | bytes) for key in found):
        raise InputError(f"{name}: holds no dictionary of named values; download it again")
    return {
        key.decode("latin1") if isinstance(key, bytes) else key: value.values if isinstance(value, _Array) else value
        for key, value in found.items()
    }
