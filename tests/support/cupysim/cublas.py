"""Products and sums of matrices: what CuPy asks of cuBLAS, computed by NumPy."""

from __future__ import annotations

import ctypes
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from . import counters
from .errors import refuse

_CONSTANTS = {
    "CUBLAS_OP_N": 0,
    "CUBLAS_OP_T": 1,
    "CUBLAS_OP_C": 2,
    "CUBLAS_POINTER_MODE_HOST": 0,
    "CUBLAS_POINTER_MODE_DEVICE": 1,
    "CUBLAS_DEFAULT_MATH": 0,
    "CUBLAS_TENSOR_OP_MATH": 1,
    "CUBLAS_GEMM_DEFAULT": -1,
    "CUBLAS_GEMM_DEFAULT_TENSOR_OP": 99,
    "CUBLAS_COMPUTE_16F": 64,
    "CUBLAS_COMPUTE_32F": 68,
    "CUBLAS_COMPUTE_32F_PEDANTIC": 69,
    "CUBLAS_COMPUTE_32F_FAST_16F": 74,
    "CUBLAS_COMPUTE_32F_FAST_16BF": 75,
    "CUBLAS_COMPUTE_32F_FAST_TF32": 77,
    "CUBLAS_COMPUTE_64F": 70,
    "CUBLAS_COMPUTE_64F_PEDANTIC": 71,
    "CUBLAS_COMPUTE_32I": 72,
}
# cudaDataType -> NumPy's, and the type that products of it are computed in.
_TYPES = {0: "float32", 1: "float64", 2: "float16", 3: "int8", 4: "complex64", 5: "complex128", 10: "int32"}
_WIDER = {"float16": "float32", "int8": "int32"}


def module() -> types.ModuleType:
    """Return what stands for ``cupy_backends.cuda.libs.cublas``; its other names raise ``NotEmulated``."""
    stand_in = types.ModuleType("cupy_backends.cuda.libs.cublas")
    stand_in.__dict__.update(
        _CONSTANTS,
        CUBLASError=CUBLASError,
        available=True,
        create=lambda: 1,
        destroy=lambda handle: None,
        getVersion=lambda handle: 120900,
        setStream=lambda handle, stream: None,
        getStream=lambda handle: 0,
        setMathMode=lambda handle, mode: None,
        getMathMode=lambda handle: 0,
        setPointerMode=_set_pointer_mode,
        getPointerMode=lambda handle: 0,
        gemmEx=_gemm_ex,
        gemmStridedBatchedEx=_gemm_strided_batched_ex,
        gemmBatchedEx=_gemm_batched_ex,
        __getattr__=_refuse_the_rest,
    )
    for letter, dtype in {"s": "float32", "d": "float64", "c": "complex64", "z": "complex128"}.items():
        setattr(stand_in, f"{letter}gemm", _typed_gemm(f"{letter}gemm", dtype))
        setattr(stand_in, f"{letter}geam", _typed_geam(f"{letter}geam", dtype))
        setattr(stand_in, f"{letter}gemmBatched", _typed_gemm_batched(f"{letter}gemmBatched", dtype))
    return stand_in


class CUBLASError(RuntimeError):
    """cuBLAS's error: never raised here, but CuPy names it."""


def _refuse_the_rest(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise refuse(f"cublas.{name}")


def _set_pointer_mode(handle: int, mode: int) -> None:
    if mode != _CONSTANTS["CUBLAS_POINTER_MODE_HOST"]:
        raise refuse("cublas.setPointerMode(CUBLAS_POINTER_MODE_DEVICE)")


def _array(address: int, dtype: Any, size: int) -> np.ndarray:
    """A view of memory, (size,)."""
    dtype = np.dtype(dtype)
    return np.frombuffer((ctypes.c_char * (size * dtype.itemsize)).from_address(address), dtype)


def _matrix(address: int, dtype: Any, rows: int, columns: int, leading: int) -> np.ndarray:
    """A view of a column-major matrix whose columns are ``leading`` elements apart, (rows, columns)."""
    size = np.dtype(dtype).itemsize
    flat = _array(address, dtype, leading * (columns - 1) + rows)
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), (size, leading * size))


def _operand(operation: int, address: int, dtype: Any, rows: int, columns: int, leading: int) -> np.ndarray:
    """op(A) of shape (rows, columns): A itself, its transpose, or its conjugate transpose."""
    if operation == _CONSTANTS["CUBLAS_OP_N"]:
        return _matrix(address, dtype, rows, columns, leading)
    transposed = _matrix(address, dtype, columns, rows, leading).T
    return transposed.conj() if operation == _CONSTANTS["CUBLAS_OP_C"] else transposed


def _product(
    op_a: int, op_b: int, m: int, n: int, k: int, alpha: int,
    a: int, type_a: str, lda: int, b: int, type_b: str, ldb: int,
    beta: int, c: int, type_c: str, ldc: int,
) -> None:  # fmt: skip
    """C <- alpha op(A) op(B) + beta C. With beta = 0, C is written and never read."""
    wide = np.dtype(_WIDER.get(type_c, type_c))
    left = _operand(op_a, a, type_a, m, k, lda).astype(wide, copy=False)  # (m, k)
    right = _operand(op_b, b, type_b, k, n, ldb).astype(wide, copy=False)  # (k, n)
    scale, keep = (_array(address, wide, 1)[0] for address in (alpha, beta))
    product = left @ right  # (m, n)
    if scale != 1:
        product = scale * product
    out = _matrix(c, type_c, m, n, ldc)
    with np.errstate(over="ignore"):  # a half may overflow, as on a device
        out[...] = product if keep == 0 else product + keep * out


def _gemm_ex(
    handle: int, op_a: int, op_b: int, m: int, n: int, k: int, alpha: int,
    a: int, type_a: int, lda: int, b: int, type_b: int, ldb: int,
    beta: int, c: int, type_c: int, ldc: int, compute_type: int, algorithm: int,
) -> None:  # fmt: skip
    counters.called("gemmEx")
    kinds = (_TYPES[type_a], _TYPES[type_b], _TYPES[type_c])
    _product(op_a, op_b, m, n, k, alpha, a, kinds[0], lda, b, kinds[1], ldb, beta, c, kinds[2], ldc)


def _gemm_strided_batched_ex(
    handle: int, op_a: int, op_b: int, m: int, n: int, k: int, alpha: int,
    a: int, type_a: int, lda: int, stride_a: int, b: int, type_b: int, ldb: int, stride_b: int,
    beta: int, c: int, type_c: int, ldc: int, stride_c: int, count: int, compute_type: int, algorithm: int,
) -> None:  # fmt: skip
    counters.called("gemmStridedBatchedEx")
    kinds = (_TYPES[type_a], _TYPES[type_b], _TYPES[type_c])
    steps = [
        stride * np.dtype(kind).itemsize for stride, kind in zip((stride_a, stride_b, stride_c), kinds, strict=True)
    ]
    for i in range(count):
        at_a, at_b, at_c = a + i * steps[0], b + i * steps[1], c + i * steps[2]
        _product(op_a, op_b, m, n, k, alpha, at_a, kinds[0], lda, at_b, kinds[1], ldb, beta, at_c, kinds[2], ldc)


def _gemm_batched_ex(
    handle: int, op_a: int, op_b: int, m: int, n: int, k: int, alpha: int,
    a: int, type_a: int, lda: int, b: int, type_b: int, ldb: int,
    beta: int, c: int, type_c: int, ldc: int, count: int, compute_type: int, algorithm: int,
) -> None:  # fmt: skip
    counters.called("gemmBatchedEx")
    kinds = (_TYPES[type_a], _TYPES[type_b], _TYPES[type_c])
    for at_a, at_b, at_c in _addresses(a, b, c, count):
        _product(op_a, op_b, m, n, k, alpha, at_a, kinds[0], lda, at_b, kinds[1], ldb, beta, at_c, kinds[2], ldc)


def _addresses(a: int, b: int, c: int, count: int) -> Any:
    """Triples of addresses, from three arrays of pointers in device memory."""
    return zip(*(_array(p, "uint64", count).tolist() for p in (a, b, c)), strict=True)


def _typed_gemm(name: str, dtype: str) -> Callable[..., None]:
    def gemm(
        handle: int, op_a: int, op_b: int, m: int, n: int, k: int, alpha: int,
        a: int, lda: int, b: int, ldb: int, beta: int, c: int, ldc: int,
    ) -> None:  # fmt: skip
        counters.called(name)
        _product(op_a, op_b, m, n, k, alpha, a, dtype, lda, b, dtype, ldb, beta, c, dtype, ldc)

    return gemm


def _typed_gemm_batched(name: str, dtype: str) -> Callable[..., None]:
    def gemm_batched(
        handle: int, op_a: int, op_b: int, m: int, n: int, k: int, alpha: int,
        a: int, lda: int, b: int, ldb: int, beta: int, c: int, ldc: int, count: int,
    ) -> None:  # fmt: skip
        counters.called(name)
        for at_a, at_b, at_c in _addresses(a, b, c, count):
            _product(op_a, op_b, m, n, k, alpha, at_a, dtype, lda, at_b, dtype, ldb, beta, at_c, dtype, ldc)

    return gemm_batched


def _typed_geam(name: str, dtype: str) -> Callable[..., None]:
    """C <- alpha op(A) + beta op(B); with a factor of 0, that matrix is not read."""

    def geam(
        handle: int, op_a: int, op_b: int, m: int, n: int, alpha: int, a: int, lda: int,
        beta: int, b: int, ldb: int, c: int, ldc: int,
    ) -> None:  # fmt: skip
        counters.called(name)
        total = np.zeros((m, n), dtype)
        for factor, operation, address, leading in ((alpha, op_a, a, lda), (beta, op_b, b, ldb)):
            scale = _array(factor, dtype, 1)[0]
            if scale != 0:
                total += scale * _operand(operation, address, dtype, m, n, leading)
        _matrix(c, dtype, m, n, ldc)[...] = total

    return geam
