"""Updates of several trials on one layer: their Parameters lie in one tensor, and are what they would be apart."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sam2lora.adapters.dropout import Draws
from sam2lora.adapters.low_rank import LoRALinear, LowRank
from sam2lora.adapters.packed_lora import PackedLinear, Padding, Stack

RANKS = [(3, 1, 4), (2, 2), (5,)]


def layers(ranks: Sequence[int], dropout: float = 0.0) -> list[LoRALinear]:
    """One for each rank on the same frozen layer, 6 -> 8, with updates of two parts of its output, none of them 0."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def update(rank: int, outputs: int) -> LowRank:
        part = LowRank(drawn(rank, 6), outputs, 1.0 + rank, dropout, "output")
        part.B.data.copy_(drawn(outputs, rank))
        return part

    frozen = nn.Linear(6, 8, bias=False, dtype=torch.float64).requires_grad_(False)
    frozen.weight.copy_(drawn(8, 6))
    rows = {"q": slice(0, 3), "v": slice(5, 8)}
    return [LoRALinear(frozen, {name: update(rank, 3) for name in rows}, rows) for rank in ranks]


def factors(layer: LoRALinear) -> list[nn.Parameter]:
    return list(layer.lora.parameters())


@pytest.mark.parametrize("ranks", RANKS)
def test_parameters_are_views_of_one_tensor_with_the_values_that_they_had(ranks: Sequence[int]) -> None:
    trials = [factors(layer) for layer in layers(ranks)]
    before = [[parameter.detach().clone() for parameter in trial] for trial in trials]
    stack = Stack(trials)
    for trial, values in zip(trials, before, strict=True):
        for parameter, value in zip(trial, values, strict=True):
            assert torch.equal(parameter, value)
            assert parameter.is_contiguous(), "as the kernels of optimizers require"
            assert parameter.untyped_storage().data_ptr() == stack.values.untyped_storage().data_ptr()
            with torch.no_grad():
                parameter.zero_()
    assert not stack.values.any(), "nothing lies beside them but zeros"


@pytest.mark.parametrize("ranks", RANKS)
def test_a_packed_layer_is_each_of_its_layers(ranks: Sequence[int]) -> None:
    together, apart = layers(ranks), layers(ranks)
    stack = Stack([factors(layer) for layer in together])
    x = torch.randn(len(ranks), 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with stack.gradients():
        y = PackedLinear(together, stack, None)(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        y.square().sum().backward()
        for layer, own, own_x, own_y in zip(together, apart, x, y, strict=True):
            expected = own(own_x)
            torch.testing.assert_close(own_y, expected)
            expected.square().sum().backward()
            for parameter, lonely in zip(factors(layer), factors(own), strict=True):
                torch.testing.assert_close(parameter.grad, lonely.grad)
                assert parameter.grad is not None
                assert parameter.grad.untyped_storage().data_ptr() == stack.grads.untyped_storage().data_ptr()
    assert all(parameter.grad is None for layer in together for parameter in factors(layer))


def test_padding_stays_exactly_zero_whatever_optimizers_do_to_the_parameters() -> None:
    trials = layers((4, 1, 3), dropout=0.5)
    stack = Stack([factors(layer) for layer in trials])
    draws = Draws()
    packed = PackedLinear(trials, stack, draws)
    draws.seed([1, 2, 1], "cpu")
    optimizers = [
        torch.optim.AdamW(factors(trials[0]), lr=0.1, weight_decay=0.1, fused=True),
        torch.optim.SGD(factors(trials[1]), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        torch.optim.AdamW(factors(trials[2]), lr=0.3, fused=True),
    ]
    x = torch.randn(3 * 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with stack.gradients():
        for _ in range(3):
            stack.grads.zero_()
            packed(x).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
        for parameter in (parameter for layer in trials for parameter in factors(layer)):
            assert parameter.grad is not None
            assert parameter.grad.any()
            assert parameter.any()
            parameter.grad.zero_()
            parameter.data.zero_()
        assert not stack.grads.any()
        assert not stack.values.any()


def test_padding_is_that_of_torch_there_and_back() -> None:
    ranks, outputs = (2, 5, 1, 5), 7
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(outputs, rank, generator=generator, dtype=torch.float64) for rank in ranks]
    dense = torch.stack([pad(each.flatten(), (0, outputs * (5 - each.shape[1]))) for each in rows]).requires_grad_()
    padding = Padding(ranks, outputs, dense.device)
    assert torch.equal(padding(dense), torch.stack([pad(each, (0, 5 - each.shape[1])) for each in rows]))
    assert torch.autograd.gradcheck(padding, dense)


def test_a_stack_that_moves_into_another_lets_its_storage_go() -> None:
    trials = [factors(layer) for layer in layers((2, 3))]
    first = Stack(trials)
    second = Stack([trials[1]])
    assert trials[1][0].untyped_storage().nbytes() == second.values.nbytes < first.values.nbytes
    again = Stack(trials)
    owners = {parameter.untyped_storage().data_ptr() for trial in trials for parameter in trial}
    assert owners == {again.values.untyped_storage().data_ptr()}
