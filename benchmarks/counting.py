"""What a block of PyTorch asks of a device, counted operation by operation: arithmetic, bytes, launches and waits.

`Tally` counts real tensors and fake ones. `stand_in` is a GPU that is not there: inside it tensors are on ``"cuda"``
and hold no numbers, the large backbone needs no memory, and autograd, autocast and fused optimizers do what they would
do on a GPU. Both together count a training step of any size on a machine without one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

T = TypeVar("T")
aten = torch.ops.aten

# Need the numbers, or a shape that depends on them.
_ASKING = {
    "_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "_unique2", "unique_dim",
    "unique_consecutive", "bincount", "repeat_interleave",
}  # fmt: skip
_INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"}
_OVERWRITING = {"copy_", "fill_", "zero_", "uniform_", "normal_", "random_", "bernoulli_", "exponential_"}
_ALLOCATING = ("empty", "new_empty")
# Kernels beyond the first, as CUDA's implementations launch them: one clears what another adds to, or a second
# gathers the parts of the first.
_MORE_KERNELS = {
    "native_layer_norm_backward": 1,
    "upsample_bilinear2d_backward": 1,
    "_scaled_dot_product_efficient_attention_backward": 2,
    "_scaled_dot_product_flash_attention_backward": 2,
}
# ATen/native/cuda/MultiTensorApply.cuh: elements of a chunk, chunks of a launch, tensors of a launch by how many lists
# of tensors it takes.
_CHUNK, _CHUNKS, _TENSORS = 65536, 320, (110, 64, 48, 36, 30)


@dataclass(frozen=True)
class Operation:
    """What one call asked of the device.

    ``flops``: multiplications and additions of matrix products, convolutions and attention, by torch's own formulas
    (`torch.utils.flop_counter`); everything elementwise has 0, and is bound by its bytes. ``read``, ``written``: bytes
    of the distinct tensors that come in and go out, an expanded tensor's without its repetitions. ``launches``:
    kernels. ``waits``: 1 where the host stands still until the device is done. ``copies``: tensors copied from the
    host. ``dtype``: of the first tensor.
    """

    name: str
    dtype: torch.dtype
    flops: int = 0
    read: int = 0
    written: int = 0
    launches: int = 0
    waits: int = 0
    copies: int = 0

    @property
    def moved(self) -> int:
        """Bytes read and written."""
        return self.read + self.written


class Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within ``with Tally("cuda") as tally`` every operation that touches the device is added to ``tally.operations``.

    Views, allocations and work on the host are none. An operation that needs numbers, such as ``.item()``, is counted
    and then done: on fake tensors torch raises ``DataDependentOutputException`` or ``DynamicOutputShapeException``,
    unless ``answer`` says what a scalar is taken to be. Autograd's operations are counted, too.
    """

    def __init__(self, device: str, answer: float | None = None) -> None:
        """``device``: its type. ``answer``: what every scalar is that a fake tensor is asked for (1: finite, true)."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.answer = device, answer
        self.operations: list[Operation] = []

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Do the operation, and count it."""
        kwargs = kwargs or {}
        call = _Call(func, args, kwargs, self.device)
        if call.asks and call.on_device(call.given):
            self.operations.append(Operation(call.name, call.dtype, launches=1, waits=1))
        if self.answer is not None and func is aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return _as(self.answer, args[0].dtype)
        if call.asks:
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        results = _tensors(result)
        if call.on_device([*call.given, *results]) and not call.is_free(results):
            self.operations.append(call.operation(result, results))
        return result

    @property
    def flops(self) -> int:
        """Of all operations."""
        return sum(operation.flops for operation in self.operations)

    @property
    def moved(self) -> int:
        """Bytes that all operations read and wrote."""
        return sum(operation.moved for operation in self.operations)

    @property
    def launches(self) -> int:
        """Kernels of all operations."""
        return sum(operation.launches for operation in self.operations)

    @property
    def waits(self) -> list[str]:
        """The names of the operations that the host waited for."""
        return [operation.name for operation in self.operations if operation.waits]

    @property
    def copies(self) -> int:
        """Tensors copied from the host."""
        return sum(operation.copies for operation in self.operations)


class _Call:
    """One call of an operator, and what its schema says of its arguments."""

    def __init__(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], device: str) -> None:
        self.func, self.args, self.kwargs, self.device = func, args, kwargs, device
        self.name: str = func.overloadpacket.__name__
        self.given = _tensors((args, kwargs))
        self.read: list[Tensor] = []
        self.mutated: list[Tensor] = []
        values = [*zip(func._schema.arguments, args, strict=False)]
        values += [(argument, kwargs[argument.name]) for argument in func._schema.arguments if argument.name in kwargs]
        for argument, value in values:
            changed = argument.alias_info is not None and argument.alias_info.is_write
            if changed:
                self.mutated += _tensors(value)
            if not (changed and (argument.is_out or self.name in _OVERWRITING)) and not self._takes_the_shape():
                self.read += _tensors(value)

    @property
    def dtype(self) -> torch.dtype:
        return next((tensor.dtype for tensor in self.given), torch.get_default_dtype())

    @property
    def asks(self) -> bool:
        """Whether the host must know numbers to go on."""
        if self.name in _INDEXING and any(tensor.dtype in (torch.bool, torch.uint8) for tensor in self.given[1:]):
            value = self.args[2] if "put" in self.name else None
            return value is None or value.numel() != 1  # one value is filled in where the mask is
        return self.name in _ASKING and "output_size" not in self.kwargs

    def _takes_the_shape(self) -> bool:
        return self.name.endswith("_like") or self.name.startswith("new_")

    def on_device(self, tensors: Sequence[Tensor]) -> bool:
        return any(tensor.device.type == self.device for tensor in tensors)

    def is_free(self, results: Sequence[Tensor]) -> bool:
        """Whether nothing is computed: a view, an allocation or no tensor at all."""
        if self.name.startswith(_ALLOCATING) or not (results or self.mutated):
            return True
        storages = {_storage(tensor) for tensor in self.given}
        return not self.mutated and all(_storage(tensor) in storages for tensor in results)

    def operation(self, result: Any, results: Sequence[Tensor]) -> Operation:
        came, went = self._crossing(results)
        blocking = not (self.kwargs.get("non_blocking") or (self.name == "copy_" and self.args[2:3] == (True,)))
        written = _distinct([*self.mutated, *results])
        return Operation(
            name=self.name,
            dtype=self.dtype,
            flops=_flops(self.func, self.args, self.kwargs, result),
            read=sum(map(_bytes, _distinct(self.read))),
            written=sum(map(_bytes, written)),
            launches=self._launches(),
            waits=int((came > 0 or went > 0) and blocking),
            copies=came,
        )

    def _crossing(self, results: Sequence[Tensor]) -> tuple[int, int]:
        """How many tensors go from the host to the device, and back."""
        if self.name in _INDEXING:
            return sum(index.device.type != self.device for index in _tensors(self.args[1])), 0
        if self.name not in ("copy_", "_to_copy"):
            return 0, 0  # a scalar of the host is an argument of the kernel
        target = self.mutated[0] if self.mutated else results[0]
        source = self.given[-1]
        here, there = source.device.type == self.device, target.device.type == self.device
        return int(there and not here), int(here and not there)

    def _launches(self) -> int:
        if self.name.startswith(("_foreach_", "_fused_")):
            lists = [value for value in self.args if isinstance(value, list | tuple) and _tensors(value)]
            fresh, steps = (
                not self.mutated,
                self.name.startswith("_fused_adam"),
            )  # counts of steps are no list of theirs
            return _chunked([tensor.numel() for tensor in lists[0]], len(lists) + fresh - steps)
        if self.name == "convolution_backward":
            return sum(self.args[-1])
        return 1 + _MORE_KERNELS.get(self.name, 0)


def _chunked(sizes: Sequence[int], lists: int) -> int:
    """Launches of torch's multi-tensor kernels for tensors of ``sizes`` elements in each of so many ``lists``."""
    most = _TENSORS[min(lists, len(_TENSORS)) - 1]
    launches = tensors = chunks = 0
    for size in filter(None, sizes):
        tensors += 1
        left = math.ceil(size / _CHUNK)
        while left:
            taken = min(left, _CHUNKS - chunks)
            left, chunks = left - taken, chunks + taken
            if chunks == _CHUNKS or (tensors == most and not left):
                launches, chunks, tensors = launches + 1, 0, int(left > 0)
    return launches + (chunks > 0)


def _flops(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    formula = flop_registry.get(func.overloadpacket) or flop_registry.get(_out_of_place(func))
    return int(formula(*args, **kwargs, out_val=result)) if formula else 0


def _out_of_place(func: Any) -> Any:
    """The operator without its trailing underscore: torch has formulas for ``addmm``, and not for ``addmm_``."""
    return getattr(aten, func.overloadpacket.__name__.rstrip("_"), None)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _distinct(tensors: Sequence[Tensor]) -> list[Tensor]:
    places = {(_storage(t), t.storage_offset(), t.shape, t.stride()): t for t in tensors}
    return list(places.values())


def _bytes(tensor: Tensor) -> int:
    """Of the elements that lie in memory: a repeated one lies there once."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(size if step else min(size, 1) for size, step in sides) * tensor.element_size()


def _as(value: float, dtype: torch.dtype) -> bool | int | float:
    if dtype == torch.bool:
        return bool(value)
    return value if dtype.is_floating_point else int(value)


# What CUDA's autocast runs in the lower precision, and what in float32; the rest takes what it gets.
# aten/src/ATen/autocast_mode.h, and https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior
_LOWER = (
    "addmm", "baddbmm", "bmm", "chain_matmul", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d.input", "conv_transpose3d.input", "linalg_vecdot", "linear", "matmul", "mm", "mv",
    "scaled_dot_product_attention",
)  # fmt: skip
_FLOAT32 = (
    "binary_cross_entropy_with_logits", "cumprod", "cumsum", "dist", "exp", "expm1", "group_norm", "l1_loss",
    "layer_norm", "linalg_vector_norm", "log", "log10", "log1p", "log2", "log_softmax.int", "mse_loss",
    "norm.ScalarOpt_dim", "pow.Scalar", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "prod", "prod.dim_int", "reciprocal",
    "rsqrt", "smooth_l1_loss", "softmax.int", "softplus", "sum", "sum.dim_IntList", "upsample_bilinear2d",
    "upsample_nearest2d",
)  # fmt: skip


@contextmanager
def stand_in() -> Iterator[None]:
    """Within the block a GPU seems to be there: ``device="cuda"`` makes tensors without numbers, which need no memory.

    Torch's fake tensors go forward on a GPU that is absent, and no further. So their device is ``"cuda"`` for Python
    alone; for C++ it is the meta device, on which autograd runs without a stream. What asks for the device in C++ is
    done here as CUDA does it: autocast (but for its cache of weights that are trained, which saves a cast where a
    weight is used twice), the choice of the attention kernel (flash in 16 bits, else memory-efficient), groups of
    tensors for the multi-tensor kernels, random generators and pinned memory.
    """
    make = Tensor._make_subclass

    def placed(
        cls: type[Tensor], data: Tensor, grad: bool, *, device_for_backend_keys: torch.device, **more: Any
    ) -> Any:
        more["dispatch_device"] &= device_for_backend_keys.type != "cuda"
        return make(cls, data, grad, device_for_backend_keys=device_for_backend_keys, **more)

    fakes = _Fakes(allow_non_fake_inputs=True)  # its first one imports what looks at the signatures of torch
    with ExitStack() as stack:
        replaced: dict[str, Any] = {
            "torch.Tensor._make_subclass": placed,
            "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
            "torch.cuda.is_bf16_supported": lambda *_, **__: True,
            "torch.Generator": _Generator,
            "torch._C._group_tensors_by_device_and_dtype": _grouped,
            "torch.utils._foreach_utils._foreach_supported_types": [Tensor, torch.nn.Parameter, FakeTensor],
            "torch.optim.optimizer._foreach_supported_types": [Tensor, torch.nn.Parameter, FakeTensor],
        }
        for name, replacement in replaced.items():
            stack.enter_context(patch(name, replacement))
        stack.enter_context(_kernels())
        stack.enter_context(fakes)
        yield


class _Fakes(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Tensors that C++ makes like one of the GPU's are on the GPU, and pinned memory is memory."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is aten._pin_memory.default:
            return args[0].clone()
        if func.overloadpacket is aten._fused_sgd_:
            return None  # torch has no fake one
        made_by_autograd = torch._C._current_graph_task_id() != -1
        copied = func in (aten._to_copy.default, aten.scalar_tensor.default)
        if (made_by_autograd or copied) and kwargs.get("device") == torch.device("meta"):
            kwargs = {**kwargs, "device": torch.device("cuda", 0)}
        if func is aten._to_copy.default and _is_there(args[0], **kwargs):
            return args[0]
        return super().__torch_dispatch__(func, types, args, kwargs)


def _is_there(
    tensor: Tensor, *, device: torch.device | None = None, dtype: torch.dtype | None = None, **_: Any
) -> bool:
    """Whether a copy to ``device`` is none: C++ asks for it because it takes the GPU for another device."""
    return tensor.device.type == "cuda" and device == tensor.device and dtype in (None, tensor.dtype)


class _Generator(torch.Generator):
    """A generator of any device, which draws nothing."""

    def __new__(cls, device: str | torch.device = "cpu") -> _Generator:
        made = super().__new__(cls)
        made._place = torch.device(device)  # type: ignore[attr-defined]
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._place  # type: ignore[attr-defined, no-any-return]


def _grouped(lists: list[list[Tensor | None]], with_indices: bool = False) -> dict[Any, Any]:
    """Parallel ``lists`` of tensors by device and dtype of the first list's."""
    groups: dict[Any, tuple[list[list[Tensor | None]], list[int]]] = {}
    for place, tensor in enumerate(lists[0]):
        assert tensor is not None
        group, places = groups.setdefault((tensor.device, tensor.dtype), ([[] for _ in lists], []))
        for into, tensors in zip(group, lists, strict=True):
            if tensors:
                into.append(tensors[place])
        places.append(place)
    return groups


@contextmanager
def _kernels() -> Iterator[None]:
    """Autocast and attention as CUDA has them, for tensors whose device C++ does not know."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings(action="ignore"):  # that they stand in for torch's own
            for names, dtype in ((_LOWER, None), (_FLOAT32, torch.float32)):
                for name in names:
                    library.impl(name, _autocast(name, dtype), "AutocastCUDA", allow_override=True)  # type: ignore[no-untyped-call]
            library.impl("scaled_dot_product_attention", _attention, "AutogradCUDA", allow_override=True)  # type: ignore[no-untyped-call]
        yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]


def _autocast(name: str, dtype: torch.dtype | None) -> Callable[..., Any]:
    packet, _, overload = name.partition(".")
    func = getattr(getattr(aten, packet), overload or "default")

    def fit(value: T, to: torch.dtype) -> T | Tensor:
        if isinstance(value, Tensor) and value.is_floating_point() and value.dtype not in (to, torch.float64):
            return value.to(to)
        return value

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)):
            to = dtype or torch.get_autocast_dtype("cuda")
            return func(*(fit(value, to) for value in args), **{key: fit(value, to) for key, value in kwargs.items()})

    return run


def _attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0, causal: bool = False,
    *, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    if query.dtype in (torch.float16, torch.bfloat16):
        found, *_ = aten._scaled_dot_product_flash_attention(query, key, value, dropout, causal, False, scale=scale)
    else:
        trained = any(tensor.requires_grad for tensor in (query, key, value))
        found, *_ = aten._scaled_dot_product_efficient_attention(
            query, key, value, mask, trained, dropout, causal, scale=scale
        )
    return cast("Tensor", found)
