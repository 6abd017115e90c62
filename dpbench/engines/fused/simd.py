"""Sixteen float32 at a time, for kernels compiled by numba.

numba leaves vectorising to LLVM, which cannot know that two arrays do not overlap, and so keeps no
sum in a register across a loop. Here is a type of sixteen floats that it does keep there, with the
few operations that the kernels need. On a machine with shorter registers LLVM splits it.
"""

# mypy: ignore-errors
# numba's extension classes and decorators carry no types.
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

LANES = 16
_LLVM = ir.VectorType(ir.FloatType(), LANES)
_FUSE = ("contract",)  # a product and a sum may be one instruction with one rounding


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name="float32x16")


_vector = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _LLVM)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Address of sixteen floats of a flat array, from `index` on."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _LLVM.as_pointer())


def _splat(builder: Any, scalar: Any) -> Any:
    one = builder.insert_element(ir.Constant(_LLVM, ir.Undefined), scalar, ir.IntType(32)(0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_LLVM, ir.Undefined), lanes)


@intrinsic
def load(_: Any, array: Any, index: Any) -> Any:
    """The slice array[index : index + 16] of a flat float32 array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], *arguments), align=4)

    return _vector(array, types.intp), generate


@intrinsic
def store(_: Any, array: Any, index: Any, value: Any) -> Any:
    """Puts value into array[index : index + 16]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, at, what = arguments
        builder.store(what, _pointer(context, builder, signature.args[0], target, at), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _vector), generate


@intrinsic
def fill(_: Any, scalar: Any) -> Any:
    """Sixteen times the scalar."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _splat(builder, arguments[0])

    return _vector(types.float32), generate


@intrinsic
def add(_: Any, left: Any, right: Any) -> Any:
    """The sums, left + right."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments)

    return _vector(_vector, _vector), generate


@intrinsic
def add_scaled(_: Any, total: Any, scalar: Any, value: Any) -> Any:
    """The sums, total + scalar * value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total_, scalar_, value_ = arguments
        product = builder.fmul(_splat(builder, scalar_), value_, flags=_FUSE)
        return builder.fadd(total_, product, flags=_FUSE)

    return _vector(_vector, types.float32, _vector), generate


@intrinsic
def add_product(_: Any, total: Any, left: Any, right: Any) -> Any:
    """The sums, total + left * right."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total_, left_, right_ = arguments
        return builder.fadd(total_, builder.fmul(left_, right_, flags=_FUSE), flags=_FUSE)

    return _vector(_vector, _vector, _vector), generate


@intrinsic
def maximum(_: Any, left: Any, right: Any) -> Any:
    """The larger of each pair; `right` where either is not a number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return _vector(_vector, _vector), generate


@intrinsic
def where_equal(_: Any, left: Any, right: Any, value: Any, other: Any) -> Any:
    """Of each pair, value where left == right, other elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left_, right_, value_, other_ = arguments
        return builder.select(builder.fcmp_ordered("==", left_, right_), value_, other_)

    return _vector(_vector, _vector, _vector, _vector), generate


@intrinsic
def total(_: Any, value: Any) -> Any:
    """The sum of the sixteen."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (rest,) = arguments
        width = LANES
        while width > 1:
            width //= 2
            masks = [
                ir.Constant(
                    ir.VectorType(ir.IntType(32), width), [half * width + i for i in range(width)]
                )
                for half in (0, 1)
            ]
            halves = [builder.shuffle_vector(rest, rest, mask) for mask in masks]
            rest = builder.fadd(*halves)
        return builder.extract_element(rest, ir.IntType(32)(0))

    return types.float32(_vector), generate
