"""Sixteen float32 at a time, for kernels compiled by numba.

numba leaves vectorising to LLVM, which cannot know that two arrays do not overlap, and so keeps no
sum in a register across a loop. Here is a type of sixteen floats that it does keep there, with the
few operations that the kernels need. On a machine with shorter registers LLVM splits it.
"""

# mypy: ignore-errors
# numba's extension classes and decorators carry no types.
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
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
def minimum(_: Any, left: Any, right: Any) -> Any:
    """The smaller of each pair; `right` where either is not a number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *arguments), *arguments)

    return _vector(_vector, _vector), generate


@intrinsic
def multiply(_: Any, left: Any, right: Any) -> Any:
    """The products, left * right."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fmul(*arguments)

    return _vector(_vector, _vector), generate


@intrinsic
def divide(_: Any, left: Any, right: Any) -> Any:
    """The quotients, left / right."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fdiv(*arguments)

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


@njit(cache=True)
def tanh(value):
    """The hyperbolic tangents, to a few units in the last place; not a number stays so.

    By the rational function that Eigen uses (MathFunctionsImpl.h, `ptanh_float`), odd in the value,
    which is 1 in float32 from the bound on.
    """
    bound = np.float32(7.90531110763549805)
    x = minimum(fill(bound), maximum(fill(-bound), value))
    square = multiply(x, x)
    over = fill(np.float32(-2.76076847742355e-16))
    over = add_product(fill(np.float32(2.00018790482477e-13)), square, over)
    over = add_product(fill(np.float32(-8.60467152213735e-11)), square, over)
    over = add_product(fill(np.float32(5.12229709037114e-08)), square, over)
    over = add_product(fill(np.float32(1.48572235717979e-05)), square, over)
    over = add_product(fill(np.float32(6.37261928875436e-04)), square, over)
    over = add_product(fill(np.float32(4.89352455891786e-03)), square, over)
    under = fill(np.float32(1.19825839466702e-06))
    under = add_product(fill(np.float32(1.18534705686654e-04)), square, under)
    under = add_product(fill(np.float32(2.26843463243900e-03)), square, under)
    under = add_product(fill(np.float32(4.89352518554385e-03)), square, under)
    return divide(multiply(x, over), under)
