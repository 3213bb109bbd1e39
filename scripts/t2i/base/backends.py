"""Back ends of engines: what runs a model."""

from __future__ import annotations

REFERENCE, INDUCTOR, NATIVE = "reference", "inductor", "native"
# Each with the modules that a painter loads by name, so that an edit there counts for the variants
# that use it and for no other: what compiles the pipeline; what loads the networks, the loop, and
# the kernels of a GPU.
BACKENDS: dict[str, tuple[str, ...]] = {
    REFERENCE: (),
    INDUCTOR: ("t2i.engine.inductor",),
    NATIVE: ("t2i.engine.networks", "t2i.engine.loop", "t2i.engine.kernels.table"),
}
FP8 = "t2i.engine.fp8.parts"  # what the loop's UNet is made of for a variant with `fp8`
