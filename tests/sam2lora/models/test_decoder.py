"""The parts of the decoder that are laid out for a CPU: the official arithmetic, up to rounding."""

from __future__ import annotations

import pytest
import torch
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.transformer import Attention, TwoWayTransformer
from torch import Tensor, nn

from sam2lora.models.cpu_decoder import FewKeys, Planes, use_cpu_kernels


def official() -> MaskDecoder:
    transformer = TwoWayTransformer(depth=2, embedding_dim=32, num_heads=4, mlp_dim=64)
    return MaskDecoder(transformer_dim=32, transformer=transformer, use_high_res_features=True)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def both(ours: nn.Module, theirs: nn.Module, *inputs: Tensor) -> None:
    """Equal outputs, and equal gradients of the inputs and of every parameter."""
    ours.load_state_dict(theirs.state_dict())
    found = []
    for module in (ours, theirs):
        given = [x.clone().requires_grad_() for x in inputs]
        y = module(*given)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
        found.append([y, *torch.autograd.grad((y * weights).sum(), [*given, *module.parameters()])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("positions", "tokens"), [(64, 6), (1, 1), (9, 1), (1, 7)])
def test_attention_to_few_keys_is_attention(positions: int, tokens: int) -> None:
    shape = {"embedding_dim": 32, "num_heads": 4, "downsample_rate": 2}
    queries, keys, values = (torch.randn(3, count, 32, dtype=torch.float64) for count in (positions, tokens, tokens))
    both(FewKeys(**shape).double(), Attention(**shape).double(), queries, keys, values)


def test_planes_are_a_transposed_convolution_with_its_channels_one_after_the_other() -> None:
    shape = (16, 8, 2, 2)
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64).to(memory_format=torch.channels_last)
    both(Planes(*shape).double(), nn.ConvTranspose2d(*shape).double(), x)
    assert Planes(*shape)(x.float()).is_contiguous()


def test_a_hastened_decoder_predicts_the_same_with_the_same_names() -> None:
    decoder = official().double()
    names, state = list(decoder.state_dict()), torch.get_rng_state()
    given = {
        "image_embeddings": torch.randn(2, 32, 8, 8, dtype=torch.float64),
        "image_pe": torch.randn(1, 32, 8, 8, dtype=torch.float64),
        "sparse_prompt_embeddings": torch.randn(2, 3, 32, dtype=torch.float64),
        "dense_prompt_embeddings": torch.randn(2, 32, 8, 8, dtype=torch.float64),
        "multimask_output": True,
        "repeat_image": False,
        "high_res_features": [torch.randn(2, 4, 32, 32).double(), torch.randn(2, 8, 16, 16).double()],
    }
    before = decoder(**given)
    torch.set_rng_state(state)
    use_cpu_kernels(decoder)

    assert torch.equal(torch.get_rng_state(), state)
    assert list(decoder.state_dict()) == names
    assert sum(isinstance(module, FewKeys | Planes) for module in decoder.modules()) == 3
    for one, other in zip(decoder(**given), before, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
