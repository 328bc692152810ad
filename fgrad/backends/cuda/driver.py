"""The part of the CUDA driver that CuPy does not offer: graphs with conditional nodes and updates.

Through ctypes; the declarations are those of ``cuda.h``.
"""

import ctypes
import functools
from ctypes import POINTER, byref, c_int, c_longlong, c_size_t, c_uint, c_ulonglong, c_void_p
from typing import Any

from fgrad.core.errors import DriverError

KERNEL, MEMCPY, CHILD, CONDITIONAL = 0, 1, 4, 13  # CUgraphNodeType
KINDS = {
    0: "kernel", 1: "copy", 2: "memset", 3: "host", 4: "child", 5: "empty", 6: "wait",
    7: "record", 10: "allocation", 11: "free", 13: "conditional",
}  # fmt: skip
CONDITIONAL_VERSION = 12040  # of the driver, from which loops may stand in branches and loops
_THREAD_LOCAL = 1  # the mode of capture in which this thread may do nothing that synchronises
_RELAXED = 2  # in which it may
_SET = 1  # CU_STREAM_SET_CAPTURE_DEPENDENCIES
_HOST, _UNIFIED = 1, 4  # CUmemorytype
_MEMORY_TYPE = 2  # CU_POINTER_ATTRIBUTE_MEMORY_TYPE


class KernelParams(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS_v2."""

    _fields_ = (
        ("func", c_void_p),
        *((n, c_uint) for n in ("gx", "gy", "gz", "bx", "by", "bz", "shared")),
        ("params", c_void_p),
        ("extra", c_void_p),
        ("kern", c_void_p),
        ("ctx", c_void_p),
    )


class ConditionalParams(ctypes.Structure):
    """CUgraphNodeParams with the member for conditional nodes, padded to its 256 bytes."""

    _fields_ = (
        ("type", c_int),
        ("reserved0", c_int * 3),
        ("handle", c_ulonglong),
        ("kind", c_int),
        ("size", c_uint),
        ("bodies", POINTER(c_void_p)),
        ("ctx", c_void_p),
        ("padding", c_longlong * 25),
        ("reserved2", c_longlong),
    )


class CopyParams(ctypes.Structure):
    """CUDA_MEMCPY3D."""

    _fields_ = (
        *((n, c_size_t) for n in ("sx", "sy", "sz", "slod")),
        ("stype", c_int),
        ("shost", c_void_p),
        ("sdevice", c_ulonglong),
        ("sarray", c_void_p),
        ("reserved0", c_void_p),
        ("spitch", c_size_t),
        ("sheight", c_size_t),
        *((n, c_size_t) for n in ("dx", "dy", "dz", "dlod")),
        ("dtype", c_int),
        ("dhost", c_void_p),
        ("ddevice", c_ulonglong),
        ("darray", c_void_p),
        ("reserved1", c_void_p),
        ("dpitch", c_size_t),
        ("dheight", c_size_t),
        *((n, c_size_t) for n in ("width", "height", "depth")),
    )


# Functions and the types of their arguments.
_P, _PP = c_void_p, POINTER(c_void_p)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuGetErrorString": (c_int, POINTER(ctypes.c_char_p)),
    "cuCtxGetCurrent": (_PP,),
    "cuStreamBeginCapture_v2": (_P, c_int),
    "cuStreamBeginCaptureToGraph": (_P, _P, _P, _P, c_size_t, c_int),
    "cuStreamGetCaptureInfo_v2": (
        _P, POINTER(c_int), POINTER(c_ulonglong), _PP, POINTER(_PP), POINTER(c_size_t),
    ),
    "cuStreamGetCaptureInfo_v3": (
        _P, POINTER(c_int), POINTER(c_ulonglong), _PP, POINTER(_PP), _PP, POINTER(c_size_t),
    ),
    "cuStreamUpdateCaptureDependencies_v2": (_P, _PP, _P, c_size_t, c_uint),
    "cuStreamEndCapture": (_P, _PP),
    "cuGraphConditionalHandleCreate": (POINTER(c_ulonglong), _P, _P, c_uint, c_uint),
    "cuGraphAddNode_v2": (_PP, _P, _PP, _P, c_size_t, POINTER(ConditionalParams)),
    "cuGraphInstantiateWithFlags": (_PP, _P, c_ulonglong),
    "cuGraphLaunch": (_P, _P),
    "cuGraphExecKernelNodeSetParams_v2": (_P, _P, POINTER(KernelParams)),
    "cuGraphGetNodes": (_P, _PP, POINTER(c_size_t)),
    "cuGraphNodeGetType": (_P, POINTER(c_int)),
    "cuGraphKernelNodeGetParams_v2": (_P, POINTER(KernelParams)),
    "cuGraphMemcpyNodeGetParams": (_P, POINTER(CopyParams)),
    "cuGraphChildGraphNodeGetGraph": (_P, _PP),
    "cuFuncLoad": (_P,),
    "cuFuncGetName": (POINTER(ctypes.c_char_p), _P),
    "cuPointerGetAttribute": (_P, c_int, c_ulonglong),
    "cuGraphExecDestroy": (_P,),
    "cuGraphDestroy": (_P,),
}  # fmt: skip


@functools.cache
def _library() -> Any:
    reasons = []
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            reasons.append(str(error))
    why = "; ".join(reasons)
    raise DriverError(
        f"the library of the CUDA driver cannot be loaded ({why}); install the driver"
    )


@functools.cache
def function(name: str) -> Any:
    """A function of the driver that returns its status."""
    found = getattr(_library(), name)
    found.argtypes, found.restype = _SIGNATURES[name], c_int
    return found


def has(name: str) -> bool:
    """Whether the driver has a function."""
    return hasattr(_library(), name)


def call(name: str, *args: Any) -> None:
    """Call a function of the driver.

    Raises:
        DriverError: It fails.
    """
    status = function(name)(*args)
    if status:
        text = ctypes.c_char_p()
        function("cuGetErrorString")(status, byref(text))
        said = (text.value or b"unknown").decode()
        raise DriverError(f"{name} of the CUDA driver failed: {said} (error {status})")


def preload(code: int) -> None:
    """Load a function now, as far as the driver can: not at its first launch, in a capture."""
    if has("cuFuncLoad"):
        call("cuFuncLoad", code)


def begin(stream: int, relaxed: bool = False) -> None:
    """Begin to capture a stream; only a relaxed capture may load code."""
    call("cuStreamBeginCapture_v2", stream, _RELAXED if relaxed else _THREAD_LOCAL)


def begin_in(stream: int, graph: int) -> None:
    """Begin to capture a stream into an empty graph."""
    call("cuStreamBeginCaptureToGraph", stream, graph, None, None, 0, _THREAD_LOCAL)


def end(stream: int) -> int:
    """End a capture: the graph."""
    graph = c_void_p()
    call("cuStreamEndCapture", stream, byref(graph))
    return graph.value or 0


def abandon(stream: int) -> None:
    """End a capture that may be invalid, and forget its graph."""
    graph = c_void_p()
    if function("cuStreamEndCapture")(stream, byref(graph)) == 0 and graph.value:
        function("cuGraphDestroy")(graph)


def captured(stream: int) -> tuple[int, Any, int]:
    """The graph that a stream is captured to, and the nodes that the next one will follow."""
    status, number, graph = c_int(), c_ulonglong(), c_void_p()
    nodes, count = POINTER(c_void_p)(), c_size_t()
    front = (stream, byref(status), byref(number), byref(graph), byref(nodes))
    if has("cuStreamGetCaptureInfo_v3"):
        call("cuStreamGetCaptureInfo_v3", *front, byref(c_void_p()), byref(count))
    else:
        call("cuStreamGetCaptureInfo_v2", *front, byref(count))
    return graph.value or 0, nodes, count.value


def new_handle(stream: int) -> int:
    """A handle of a conditional node to come in the graph that a stream is captured to."""
    graph, _, _ = captured(stream)
    context, handle = c_void_p(), c_ulonglong()
    call("cuCtxGetCurrent", byref(context))
    call("cuGraphConditionalHandleCreate", byref(handle), graph, context, 0, 0)
    return handle.value


def add_conditional(stream: int, loops: bool, handle: int) -> tuple[int, int]:
    """Add a conditional node to what a stream captures: the node, and its empty graph."""
    graph, after, count = captured(stream)
    params, node, context = ConditionalParams(), c_void_p(), c_void_p()
    call("cuCtxGetCurrent", byref(context))
    params.type, params.handle, params.kind, params.size = CONDITIONAL, handle, int(loops), 1
    params.ctx = context.value
    call("cuGraphAddNode_v2", byref(node), graph, after, None, count, byref(params))
    last = (c_void_p * 1)(node.value)
    call("cuStreamUpdateCaptureDependencies_v2", stream, last, None, 1, _SET)
    return node.value or 0, params.bodies[0] or 0


def instantiate(graph: int) -> int:
    """A graph that can be launched."""
    made = c_void_p()
    call("cuGraphInstantiateWithFlags", byref(made), graph, 0)
    return made.value or 0


def nodes_of(graph: int) -> list[int]:
    """The nodes of a graph."""
    count = c_size_t()
    call("cuGraphGetNodes", graph, None, byref(count))
    found = (c_void_p * max(count.value, 1))()
    call("cuGraphGetNodes", graph, found, byref(count))
    return [n or 0 for n in found[: count.value]]


def kind_of(node: int) -> int:
    """The driver's number of the kind of a node."""
    kind = c_int()
    call("cuGraphNodeGetType", node, byref(kind))
    return kind.value


def kernel_name(node: int) -> str:
    """The name of the function of a kernel node; empty where the driver does not tell."""
    params, name = KernelParams(), ctypes.c_char_p()
    call("cuGraphKernelNodeGetParams_v2", node, byref(params))
    told = has("cuFuncGetName") and params.func
    if not told or function("cuFuncGetName")(byref(name), params.func):
        return ""
    return (name.value or b"").decode()


def copies_to_host(node: int) -> bool:
    """Whether a copy goes to memory of the host."""
    params, kind = CopyParams(), c_int()
    call("cuGraphMemcpyNodeGetParams", node, byref(params))
    if params.dtype != _UNIFIED:
        return bool(params.dtype == _HOST)
    at = params.ddevice
    unknown = function("cuPointerGetAttribute")(byref(kind), _MEMORY_TYPE, at)
    return bool(unknown) or kind.value == _HOST


def child_of(node: int) -> int:
    """The graph of a child node."""
    graph = c_void_p()
    call("cuGraphChildGraphNodeGetGraph", node, byref(graph))
    return graph.value or 0
