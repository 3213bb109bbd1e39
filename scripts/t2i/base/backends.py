"""Back ends of engines: what runs a model."""

from __future__ import annotations

REFERENCE, NATIVE = "reference", "native"
# Each with the modules that a painter loads by name, so that an edit there counts for the variants
# that use it and for no other: the loop, and the kernels of a GPU.
BACKENDS: dict[str, tuple[str, ...]] = {
    REFERENCE: (),
    NATIVE: ("t2i.engine.loop", "t2i.engine.kernels.table"),
}
