"""Sources of the CUDA kernels: a file, what it includes, its instructions and its macros.

WGMMA names every register of its sums, up to 80 of them, so that these functions are written by a
program. `multiply` adds to sums where its last argument is not 0; `multiply_first` overwrites them,
`multiply_more` adds, and `multiply_registers` takes its left operand from registers.
"""

from __future__ import annotations

from importlib.resources import files

ARCHITECTURE = "sm_90a"


def source(name: str, kernel: str, macros: dict[str, int], instructions: str) -> str:
    """The source of the kernel `kernel` in the file `name`.cu."""
    folder = files(__package__)
    defines = "".join(f"#define {key} {value}\n" for key, value in macros.items())
    return "\n".join(
        [
            f"#define KERNEL {kernel}\n{defines}",
            (folder / "hopper.cuh").read_text(encoding="utf-8"),
            instructions,
            (folder / f"{name}.cu").read_text(encoding="utf-8"),
        ]
    )


def multiply(columns: int) -> str:
    """Both operands in shared memory; the caller says whether the sums count."""
    return _instruction("multiply", columns, "u64 left", ['"l"(left)'], "+f", "accumulate")


def multiply_first(columns: int) -> str:
    """Both operands in shared memory; what the sums were is never read."""
    return _instruction("multiply_first", columns, "u64 left", ['"l"(left)'], "=f", "0")


def multiply_more(columns: int) -> str:
    """Both operands in shared memory, added to the sums."""
    return _instruction("multiply_more", columns, "u64 left", ['"l"(left)'], "+f", "1")


def multiply_registers(columns: int) -> str:
    """The left operand in four registers, added to the sums."""
    registers = [f'"r"(left[{i}])' for i in range(4)]
    return _instruction("multiply_registers", columns, "u32* left", registers, "+f", "1")


def _instruction(
    name: str, columns: int, left: str, operands: list[str], sums: str, accumulate: str
) -> str:
    """A function for 64 rows, so many columns and 32 numbers of k, with fp32 sums."""
    number = columns // 2
    targets = ",".join(f"%{i}" for i in range(number))
    names = [f"%{number + i}" for i in range(len(operands))]
    first = names[0] if len(names) == 1 else "{" + ",".join(names) + "}"
    right, flag = number + len(operands), number + len(operands) + 1
    outputs = ",".join(f'"{sums}"(sums[{i}])' for i in range(number))
    asked = ", int accumulate" if accumulate == "accumulate" else ""
    signs = "1,1"  # of both operands
    return (
        f"DEVICE void {name}(float* sums, {left}, u64 right{asked}) {{\n"
        f'  asm volatile("{{ .reg .pred p; setp.ne.b32 p, %{flag}, 0;\\n"\n'
        f'    "wgmma.mma_async.sync.aligned.m64n{columns}k32.f32.e4m3.e4m3 "\n'
        f'    "{{{targets}}}, {first}, %{right}, p, {signs}; }}"\n'
        f'    : {outputs} : {", ".join(operands)}, "l"(right), "r"({accumulate}));\n}}\n'
    )
