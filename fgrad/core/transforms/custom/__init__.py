"""Functions with derivative rules of the user's: custom_jvp and custom_vjp.

A call travels as an object that each trace treats in its own way (`Trace.process_custom_vjp`):
evaluation runs the function, forward mode the forward rule, reverse mode `fwd` and later `bwd`,
batching makes a call of batched functions, and staging writes all of them as programs into one
equation, with closed-over values as operands, so that nothing leaks and the program stays data.
"""

from fgrad.core.transforms.custom.forward import custom_jvp
from fgrad.core.transforms.custom.jvp_call import JVPCall, custom_jvp_call_p
from fgrad.core.transforms.custom.reverse import custom_vjp
from fgrad.core.transforms.custom.shared import Identity, closed_over
from fgrad.core.transforms.custom.tapping import tap
from fgrad.core.transforms.custom.vjp_call import VJPCall, custom_vjp_call_p

__all__ = [
    "Identity",
    "JVPCall",
    "VJPCall",
    "closed_over",
    "custom_jvp",
    "custom_jvp_call_p",
    "custom_vjp",
    "custom_vjp_call_p",
    "tap",
]
