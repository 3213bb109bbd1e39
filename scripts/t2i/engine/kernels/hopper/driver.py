"""CUDA kernels from source: compiled by NVRTC, launched through the driver, both by ctypes.

NVRTC comes with torch and the driver with the GPU, so that nothing has to be installed. What was
compiled is kept in Triton's cache folder, under the digest of source, architecture and compiler,
and so becomes part of an engine's compiled kernels (`t2i.engine.compiled`).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from t2i.base.files import publish
from t2i.engine.compiled import CACHE_VARIABLE
from t2i.engine.kernels.hopper.source import ARCHITECTURE

OPTIONS = (f"--gpu-architecture={ARCHITECTURE}", "--std=c++17", "-default-device", "-lineinfo")
SHARED_BYTES = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
SWIZZLES = {64: 2, 128: 3}  # CU_TENSOR_MAP_SWIZZLE_64B and _128B, by bytes of a box's row
BYTES, L2_128 = 0, 2  # CU_TENSOR_MAP_DATA_TYPE_UINT8, CU_TENSOR_MAP_L2_PROMOTION_L2_128B


class KernelError(RuntimeError):
    """The compiler or the driver refused a kernel."""


class TensorMap(ctypes.Structure):
    """A tensor map as a kernel's parameter."""

    _fields_ = [("bytes", ctypes.c_char * 128)]


@functools.cache
def _driver() -> Any:
    return ctypes.CDLL("libcuda.so.1")


@functools.cache
def _compiler() -> Any:
    """NVRTC: beside torch among Python's packages, else where the system looks for libraries."""
    for folder in sys.path:
        for path in sorted(Path(folder).glob("nvidia/*/lib/libnvrtc.so.*")):
            if "builtins" not in path.name and ".alt." not in path.name:
                return ctypes.CDLL(str(path))
    major = str(torch.version.cuda).partition(".")[0]
    try:
        return ctypes.CDLL(f"libnvrtc.so.{major}")
    except OSError as error:
        raise KernelError(
            f"libnvrtc.so.{major} was not found, which compiles the fp8 kernels and comes with "
            "torch's wheels for CUDA; use a variant without fp8, or install torch from such a wheel"
        ) from error


def _check(status: int, what: str) -> None:
    """Raise KernelError for a driver's status other than success."""
    if status:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(status, ctypes.byref(text))
        reason = text.value.decode() if text.value else "unknown"
        raise KernelError(f"CUDA, {what}: error {status}, {reason}")


def _asked(function: str, program: ctypes.c_void_p, size: str) -> bytes:
    """What NVRTC has to say of a program: the log or the binary."""
    compiler, number = _compiler(), ctypes.c_size_t()
    getattr(compiler, size)(program, ctypes.byref(number))
    buffer = ctypes.create_string_buffer(number.value)
    getattr(compiler, function)(program, buffer)
    return buffer.raw


def compile_source(text: str) -> bytes:
    """The binary of a source, from the cache where it is there; raises KernelError."""
    compiler = _compiler()
    major, minor = ctypes.c_int(), ctypes.c_int()
    compiler.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    facts = "\n".join([text, *OPTIONS, f"{major.value}.{minor.value}"])
    folder = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".triton" / "cache")
    kept = folder / "t2i" / f"{hashlib.sha256(facts.encode()).hexdigest()}.cubin"
    if kept.is_file():
        return kept.read_bytes()
    program = ctypes.c_void_p()
    arguments = (ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None)
    if compiler.nvrtcCreateProgram(*arguments):
        raise KernelError("NVRTC could not create a program")
    try:
        options = (ctypes.c_char_p * len(OPTIONS))(*(option.encode() for option in OPTIONS))
        if compiler.nvrtcCompileProgram(program, len(OPTIONS), options):
            log = _asked("nvrtcGetProgramLog", program, "nvrtcGetProgramLogSize")
            raise KernelError(f"NVRTC: {log.rstrip(bytes(1)).decode()}")
        binary = _asked("nvrtcGetCUBIN", program, "nvrtcGetCUBINSize")
    finally:
        compiler.nvrtcDestroyProgram(ctypes.byref(program))
    with publish(kept) as part:
        part.write_bytes(binary)
    return binary


class Kernel:
    """A kernel of a source, for the current GPU, with so many bytes of shared memory."""

    def __init__(self, text: str, name: str, shared_bytes: int) -> None:
        torch.cuda.current_stream().synchronize()  # makes torch's context the thread's
        driver, self._name, self._shared = _driver(), name, shared_bytes
        self._module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        binary = compile_source(text)
        _check(driver.cuModuleLoadData(ctypes.byref(self._module), binary), f"loading {name}")
        arguments = (ctypes.byref(self._function), self._module, name.encode())
        _check(driver.cuModuleGetFunction(*arguments), f"finding {name}")
        status = driver.cuFuncSetAttribute(self._function, SHARED_BYTES, shared_bytes)
        _check(status, f"{shared_bytes} bytes of shared memory for {name}")

    def launch(self, blocks: int, threads: int, arguments: Sequence[Any]) -> None:
        """Run on torch's current stream; raises KernelError where it cannot be started."""
        pointers = (ctypes.c_void_p * len(arguments))(
            *(ctypes.cast(ctypes.byref(value), ctypes.c_void_p) for value in arguments)
        )
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        size = (blocks, 1, 1, threads, 1, 1, self._shared)
        status = _driver().cuLaunchKernel(self._function, *size, stream, pointers, None)
        _check(status, f"launching {self._name}")


def tensor_map(
    tensor: Tensor, sizes: Sequence[int], strides: Sequence[int], box: Sequence[int]
) -> TensorMap:
    """The tensor map of bytes: sizes and box begin with the innermost, strides with the second.

    A box's row has 64 or 128 bytes and is swizzled; what lies outside of the tensor reads as zero.
    Raises KernelError for what TMA cannot address: strides and addresses are multiples of 16 bytes.
    """
    number = len(sizes)
    raw = ctypes.create_string_buffer(256)
    address = (ctypes.addressof(raw) + 63) & ~63
    status = _driver().cuTensorMapEncodeTiled(
        ctypes.c_void_p(address),
        BYTES,
        number,
        ctypes.c_void_p(tensor.data_ptr()),
        (ctypes.c_uint64 * number)(*sizes),
        (ctypes.c_uint64 * len(strides))(*strides),
        (ctypes.c_uint32 * number)(*box),
        (ctypes.c_uint32 * number)(*[1] * number),
        0,
        SWIZZLES[box[0]],
        L2_128,
        0,
    )
    _check(status, f"tensor map of {list(sizes)} with strides {list(strides)}")
    result = TensorMap()
    ctypes.memmove(ctypes.byref(result), address, 128)
    return result


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """A tensor's address as a kernel's parameter."""
    return ctypes.c_void_p(0 if tensor is None else tensor.data_ptr())


@functools.cache
def processors(device: int) -> int:
    """Multiprocessors of a GPU."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
