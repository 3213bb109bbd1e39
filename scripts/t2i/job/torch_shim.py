"""Makes `import torchvision` work beside a CPU build of torch; import this before its users.

torchvision's compiled operators are not registered when torch is a CPU build from another
channel, and its import then fails on two missing schemas. Declaring them suffices: nothing here
calls either operator. diffusers, transformers and open_clip import torchvision.
"""

from __future__ import annotations

import torch

_library = None  # a library that is collected takes its operators with it

if torch.__version__.endswith("+cpu") and not hasattr(torch.ops.torchvision, "nms"):
    _library = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
