"""What a training step keeps in memory: counted on torch's meta device, where tensors have sizes and no contents."""

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from tadscale.models.backbones.vit.backbone import VitConfig
from tadscale.models.config import ModelConfig
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.models.student import Student

GIB = 2**30
FRAMES, SIDE = 512, 160  # as jobs/thumos14/vit.yaml has them


def kept_bytes(*, checkpoint: bool, batch: int) -> int:
    """Of a student over ViT-B, from one forward pass to its backward pass."""
    head = ActionFormerConfig(dim=512, stem_blocks=2, levels=6, heads=4, reach=9)
    model = ModelConfig(backbone=VitConfig(size="base", checkpoint=checkpoint), dim=512, head=head)
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no other gets its address
        return tensor

    with torch.device("meta"), saved_tensors_hooks(keep, lambda tensor: tensor):
        video = torch.empty(batch, FRAMES, SIDE, SIDE, 3, dtype=torch.uint8)
        Student(model, num_classes=20)(video, torch.ones(batch, FRAMES, dtype=torch.bool))
    return sum(storage.nbytes() for storage in kept.values())


def test_two_long_windows_fit_on_one_gpu_of_80_gb_with_checkpointing():
    saving, plain = (kept_bytes(checkpoint=checkpoint, batch=2) for checkpoint in (True, False))
    one_block = plain / 12  # is computed again on the way back
    assert saving + one_block < 8 * GIB
    assert plain > 32 * GIB
