"""The user's own functions: which one is meant, what identifies it, and how it is imported.

A function is named `FILE.py:function` or `package.module:function`. `code` finds its sources
without running them, and hashes what they say. `importing` runs them, in a process that checks the
hash again. Only a `Code` travels to workers, never a function.

What a row says of the user's code are the fields of `Trial`: `model`, `dataset` and `loss` are
names such as `mine.py:make(width=16)`, without folders; `model_args` is a JSON object; and
`model_hash`, `loss_hash` and `data_hash` tell one version of a name from another.
"""

from dpbench.user_code.code import Code, find
from dpbench.user_code.importing import call, calling, constant, function, refuse_nested
from dpbench.user_code.known import Known
from dpbench.user_code.reference import is_reference, named, placed, shown

__all__ = [
    "Code",
    "Known",
    "call",
    "calling",
    "constant",
    "find",
    "function",
    "is_reference",
    "named",
    "placed",
    "refuse_nested",
    "shown",
]
