from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils import clip_grad_norm_

from benchmarks.counting import Operation, Tally, stand_in

FLOAT = 4


def counted(block: Callable[[], object], device: str = "cuda") -> Tally:
    with Tally(device) as tally:
        block()
    return tally


def named(tally: Tally, name: str) -> list[Operation]:
    return [operation for operation in tally.operations if operation.name == name]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_linear_layer_is_three_products_of_its_matrix(device: str) -> None:
    def run() -> Tally:
        layer, x = nn.Linear(8, 3, device=device), torch.ones(4, 8, device=device, requires_grad=True)
        return counted(lambda: layer(x).sum().backward(), device)

    if device == "cpu":
        tally = run()
    else:
        with stand_in():
            tally = run()
    product = 2 * 4 * 8 * 3
    assert tally.flops == 3 * product, "forward, gradient of the input, gradient of the weight"
    (forward,) = named(tally, "addmm")
    assert forward.read == FLOAT * (4 * 8 + 8 * 3 + 3)
    assert forward.written == FLOAT * 4 * 3
    assert tally.launches == len(tally.operations), "a kernel each: nothing here takes several"
    assert (tally.waits, tally.copies) == ([], 0)


def test_frozen_weights_have_no_product_for_their_gradient() -> None:
    with stand_in():
        layer = nn.Linear(8, 3, device="cuda").requires_grad_(False)
        x = torch.empty(4, 8, device="cuda", requires_grad=True)
        tally = counted(lambda: layer(x).sum().backward())
    assert tally.flops == 2 * 2 * 4 * 8 * 3


def test_views_and_allocations_are_nothing_and_repetitions_are_read_once() -> None:
    with stand_in():
        x = torch.empty(4, 8, device="cuda")
        free = counted(lambda: (x.view(2, 16).T[:1].detach().expand(3, 1, 2), torch.empty(5, device="cuda")))
        row = torch.empty(8, device="cuda").expand(1000, 8)
        (added,) = counted(lambda: row + 1).operations
        (filled,) = counted(lambda: x.zero_()).operations
        (made,) = counted(lambda: torch.zeros_like(x)).operations
    assert free.operations == []
    assert (added.read, added.written) == (FLOAT * 8, FLOAT * 8000)
    assert (filled.read, filled.written) == (0, FLOAT * 32)
    assert (made.read, made.written) == (0, FLOAT * 32)


def test_work_on_the_host_is_none_of_the_device() -> None:
    with stand_in():
        assert counted(lambda: torch.ones(3).add(1).sum(), "cuda").operations == []


@pytest.mark.parametrize(("tensors", "size", "launches"), [(1, 10, 1), (36, 10, 1), (37, 10, 2), (1, 320 * 65536, 1),
                                                           (1, 320 * 65536 + 1, 2), (73, 65536, 3)])  # fmt: skip
def test_a_fused_step_takes_as_many_launches_as_its_chunks(tensors: int, size: int, launches: int) -> None:
    with stand_in():
        parameters = [nn.Parameter(torch.empty(size, device="cuda")) for _ in range(tensors)]
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        optimizer = torch.optim.AdamW(parameters, fused=True)
        optimizer.step()  # makes its state
        tally = counted(optimizer.step)
    (steps,), (fused,) = named(tally, "_foreach_add_"), named(tally, "_fused_adamw_")
    assert steps.launches == 1
    assert fused.launches == launches
    assert fused.written == FLOAT * (4 * tensors * size), "parameters, gradients and both averages"
    assert fused.read == fused.written + FLOAT * tensors, "and a count of steps of each"


def test_a_fused_step_of_sgd_is_counted_as_one_of_adamw() -> None:
    with stand_in():
        parameters = [nn.Parameter(torch.empty(10, device="cuda")) for _ in range(65)]
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        optimizer = torch.optim.SGD(parameters, momentum=0.9, fused=True)
        optimizer.step()
        (fused,) = named(counted(optimizer.step), "_fused_sgd_")
    assert fused.launches == 2, "48 tensors a launch where there are three lists"


def test_all_norms_are_taken_in_one_launch() -> None:
    with stand_in():
        parameters = [nn.Parameter(torch.empty(10, device="cuda")) for _ in range(20)]
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        tally = counted(lambda: clip_grad_norm_(parameters, 1.0))
    assert [operation.launches for operation in named(tally, "_foreach_norm")] == [1]
    assert [operation.launches for operation in named(tally, "_foreach_mul_")] == [1]
    assert named(tally, "_to_copy") == [], "all lie on one device"
    assert tally.waits == []


WAITS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "item": (lambda x: x.sum().item(), "_local_scalar_dense"),
    "truth": (lambda x: bool((x > 0).all()), "_local_scalar_dense"),
    "boolean indexing": (lambda x: x[x > 0], "index"),
    "nonzero": (lambda x: x.nonzero(), "nonzero"),
    "masked_select": (lambda x: torch.masked_select(x, x > 0), "masked_select"),
    "equal": (lambda x: torch.equal(x, x), "equal"),
}


@pytest.mark.parametrize("case", WAITS)
def test_the_host_waits_where_it_needs_a_number_or_a_shape(case: str) -> None:
    block, name = WAITS[case]
    real = counted(lambda: block(torch.ones(4)), "cpu")
    assert real.waits == [name]
    unknown = pytest.raises((DataDependentOutputException, DynamicOutputShapeException))
    with stand_in(), Tally("cuda") as fake, unknown:
        block(torch.ones(4, device="cuda"))
    assert fake.waits == [name], "counted, and then raised: a fake tensor has no numbers"


def test_an_answer_lets_a_block_go_on_without_numbers() -> None:
    with stand_in(), Tally("cuda", answer=1) as tally:
        x = torch.zeros(3, device="cuda")
        assert torch.isfinite(x).tolist() == [True, True, True]
        assert x.sum().item() == 1.0
    assert tally.waits == ["_local_scalar_dense"] * 4


COPIES: dict[str, tuple[Callable[[Tensor], object], int, int]] = {
    "a list": (lambda x: torch.tensor([1.0], device="cuda"), 1, 1),
    "a list by an example": (lambda x: x.new_tensor([1.0]), 1, 1),
    "from memory that is not pinned": (lambda x: torch.ones(3).to("cuda"), 1, 1),
    "in place": (lambda x: x.copy_(torch.ones(4)), 1, 1),
    "an index of the host": (lambda x: x[torch.tensor([0, 1])], 1, 1),
    "pinned, and not waited for": (lambda x: torch.ones(3).pin_memory().to("cuda", non_blocking=True), 1, 0),
    "where it lies": (lambda x: x.to(x.device).to("cuda").to(x), 0, 0),
    "by an example on the device": (lambda x: torch.ones(3).to(x), 1, 1),
    "to the host": (lambda x: x.cpu(), 0, 1),
    "a scalar of the host": (lambda x: x * torch.tensor(2.0), 0, 0),
    "one value behind a mask": (lambda x: x.__setitem__(x > 0, 0.0), 0, 0),
}


@pytest.mark.parametrize("case", COPIES)
def test_copies_between_host_and_device_are_seen_and_waited_for_unless_they_say_not(case: str) -> None:
    block, copies, waits = COPIES[case]
    with stand_in():
        x = torch.empty(4, device="cuda")
        tally = counted(lambda: block(x))
    assert (tally.copies, len(tally.waits)) == (copies, waits)


@pytest.mark.parametrize(("dtype", "kernel"), [(torch.float32, "efficient"), (torch.bfloat16, "flash")])
def test_attention_is_the_kernel_of_its_precision_forth_and_back(dtype: torch.dtype, kernel: str) -> None:
    with stand_in():
        q, k, v = (torch.empty(2, 4, 64, 32, dtype=dtype, device="cuda", requires_grad=True) for _ in range(3))
        tally = counted(lambda: scaled_dot_product_attention(q, k, v).sum().backward())
    product = 2 * 2 * 4 * 64 * 64 * 32
    (forth,) = named(tally, f"_scaled_dot_product_{kernel}_attention")
    (back,) = named(tally, f"_scaled_dot_product_{kernel}_attention_backward")
    assert (forth.flops, back.flops) == (2 * product, 5 * product), "backwards it computes the scores again"


def test_autocast_casts_as_cuda_does_and_frozen_weights_every_time() -> None:
    with stand_in():
        layer, norm = nn.Linear(8, 8, device="cuda").requires_grad_(False), nn.LayerNorm(8, device="cuda")
        x = torch.empty(4, 8, device="cuda", requires_grad=True)
        with torch.autocast("cuda", torch.bfloat16):
            once = counted(lambda: layer(x))
            y = layer(x)
            twice = counted(lambda: (layer(y), layer(y)))
            normed = norm(y)
            raised = counted(lambda: norm(y))
        normed.sum().backward()
    assert (y.dtype, normed.dtype) == (torch.bfloat16, torch.float32)
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    assert len(named(once, "_to_copy")) == 3, "the input, the weight and the bias"
    assert len(named(twice, "_to_copy")) == 4, "the weight and the bias of each call"
    assert len(named(raised, "_to_copy")) == 1


def test_a_stand_in_leaves_torch_as_it_was() -> None:
    before = torch.Generator, torch.Tensor._make_subclass
    keys = sorted(torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA"))
    with stand_in():
        assert torch.empty(2, device="cuda").is_cpu is False
    assert before == (torch.Generator, torch.Tensor._make_subclass)
    assert sorted(torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA")) == keys
    with torch.autocast("cpu", torch.bfloat16):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16
