"""CuPy and the CUDA driver over host memory, as far as `cupy_device` asks for them.

Launches go to a `HostDevice`, which also keeps the books about memory. Graphs, handles and nodes
are numbers, as the driver's are, and the calls have the driver's signatures.
"""

import ctypes
import itertools
import types

import numpy as np

from fgrad.backends.cuda import device as protocol
from fgrad.backends.cuda import driver

KERNEL, CONDITIONAL = 0, 13


class Memory:
    def __init__(self, data):
        self.data = data


class Array:
    """An array of the fake CuPy: `host` is what it holds, or, as for CuPy's, its shape."""

    def __init__(self, host, memory=None):
        if isinstance(host, tuple):  # and a dtype
            host, memory = self.gpu.host.empty(host, memory), None
        self.host, self.base = host, None
        self.data = types.SimpleNamespace(
            ptr=host.ctypes.data if host.size else 0, device_id=0, mem=memory or Memory(host)
        )
        self.shape, self.dtype, self.nbytes = host.shape, host.dtype, host.nbytes
        self.flags = types.SimpleNamespace(c_contiguous=host.flags.c_contiguous)

    def copy(self):
        return Array(self.host.copy())

    def get(self):
        return self.host.copy()


class Stream:
    numbers = itertools.count(0x1000, 8)

    def __init__(self, non_blocking=False):
        self.ptr = next(self.numbers) if non_blocking else 0

    def synchronize(self):
        pass


class FakeGpu:
    """The module ``cupy``, and the functions of the driver.

    Args:
        host: The device that runs what is launched.
    """

    def __init__(self, host, monkeypatch):
        self.host = host
        self.known = {}  # arguments, by the address of their table
        self.functions = {}  # by handle
        self.graphs, self.nodes, self.capturing = {}, {}, {}
        self.numbers = itertools.count(0x100000, 16)
        self.null = Stream()
        self.cupy = types.ModuleType("cupy")
        self._watch(monkeypatch)
        monkeypatch.setattr(driver, "function", lambda name: getattr(self, name))
        monkeypatch.setattr(driver, "has", lambda name: hasattr(self, name))

    def _watch(self, monkeypatch):
        make, known = protocol.Arguments.__init__, self.known

        def init(arguments, *args):
            make(arguments, *args)
            known[arguments.params] = arguments

        monkeypatch.setattr(protocol.Arguments, "__init__", init)

    # --------------------------------------------------------------------------------------- CuPy

    def module(self):
        runtime = types.SimpleNamespace(
            driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 12090, free=lambda _: None,
            getDevice=lambda: 0, memcpyAsync=self.copy, memcpyDeviceToHost=2,
        )  # fmt: skip
        cuda = types.SimpleNamespace(
            Device=FakeDevice, runtime=runtime, Stream=Stream, UnownedMemory=int,
            get_current_stream=lambda: self.null, alloc_pinned_memory=Pinned,
            driver=types.SimpleNamespace(launchKernel=self.launch),
            function=types.SimpleNamespace(Module=lambda: Module(self)),
        )  # fmt: skip
        self.cupy.cuda, self.cupy.empty, self.cupy.array = cuda, self.empty, self.array
        self.cupy.ndarray, Array.gpu = Array, self
        return self.cupy

    def empty(self, shape, dtype):
        return Array(self.host.empty(shape, dtype))

    def array(self, x, order="C", copy=True):
        return Array(self.host.upload(x if isinstance(x, np.ndarray) else x.host))

    def copy(self, to, source, count, kind, stream):
        assert not self.capturing, "a copy to the host while a graph is captured"
        ctypes.memmove(to, source, count)

    def launch(self, function, gx, gy, gz, bx, by, bz, shared, stream, params, extra):
        made = protocol.Function(self.functions[function], None, (gx, gy, gz), (bx, by, bz), shared)
        if stream in self.capturing:
            self._add(
                stream, [KERNEL, function, self.known[params], list(self.known[params].pointers)]
            )
        else:
            self.host.launch(made, self.known[params], self.host.current_stream)

    # ------------------------------------------------------------------------------------- driver

    def _add(self, stream, node):
        graph, _ = self.capturing[stream]
        number = next(self.numbers)
        self.nodes[number] = node
        self.graphs[graph].append(number)
        self.capturing[stream] = (graph, number)
        return number

    def _graph(self):
        number = next(self.numbers)
        self.graphs[number] = []
        return number

    def cuFuncLoad(self, function):
        return 0

    def cuCtxGetCurrent(self, out):
        out._obj.value = 7
        return 0

    def cuStreamBeginCapture_v2(self, stream, mode):
        assert mode in (1, 2)  # the thread's own work strictly, or relaxed for a rehearsal
        self.capturing[stream] = (self._graph(), 0)
        return 0

    def cuStreamBeginCaptureToGraph(self, stream, graph, after, data, count, mode):
        assert stream not in self.capturing
        assert not self.graphs[graph]
        self.capturing[stream] = (graph, 0)
        return 0

    def cuStreamGetCaptureInfo_v3(self, stream, status, number, graph, nodes, edges, count):
        found, last = self.capturing[stream]
        graph._obj.value = found
        self._last = (ctypes.c_void_p * 1)(last)
        nodes._obj.contents = ctypes.c_void_p.from_buffer(self._last)
        count._obj.value = int(last != 0)
        return 0

    def cuGraphConditionalHandleCreate(self, out, graph, context, default, flags):
        assert graph in self.graphs
        assert context.value == 7
        out._obj.value = self.host.handle()
        return 0

    def cuGraphAddNode_v2(self, out, graph, after, data, count, params):
        p = params._obj
        assert (p.type, p.size, p.ctx) == (CONDITIONAL, 1, 7)
        (stream,) = (s for s, (g, _) in self.capturing.items() if g == graph)
        body = self._graph()
        self._bodies = (ctypes.c_void_p * 1)(body)
        p.bodies = ctypes.cast(self._bodies, ctypes.POINTER(ctypes.c_void_p))
        last = self.capturing[stream]
        out._obj.value = self._add(stream, [CONDITIONAL, p.handle, p.kind, body])
        self.capturing[stream] = last  # until it is said otherwise
        return 0

    def cuStreamUpdateCaptureDependencies_v2(self, stream, nodes, data, count, flags):
        assert (count, flags) == (1, 1)
        self.capturing[stream] = (self.capturing[stream][0], nodes[0])
        return 0

    def cuStreamEndCapture(self, stream, out):
        out._obj.value = self.capturing.pop(stream)[0]
        return 0

    def cuGraphInstantiateWithFlags(self, out, graph, flags):
        out._obj.value = graph + 1
        return 0

    def cuGraphLaunch(self, made, stream):
        self._run(self.graphs[made - 1])
        return 0

    def _run(self, numbers):
        for number in numbers:
            kind, *node = self.nodes[number]
            if kind == KERNEL:
                name = self.functions[node[0]]
                self.host.log.append(name)
                self.host.function(name)(node[2], node[1].words)
                continue
            handle, loops, body = node
            while self.host.values[handle]:
                self._run(self.graphs[body])
                if not loops:
                    break

    def cuGraphExecKernelNodeSetParams_v2(self, made, node, params):
        p = params._obj
        arguments = self.known[p.params]
        kind, function, *_ = self.nodes[node]
        assert (kind, function) == (KERNEL, p.func)
        assert p.bx >= 1
        self.nodes[node] = [KERNEL, function, arguments, list(arguments.pointers)]
        self.host.updates += 1
        return 0

    def cuGraphGetNodes(self, graph, out, count):
        numbers = self.graphs[graph]
        if out is None:
            count._obj.value = len(numbers)
        else:
            out[: len(numbers)] = numbers
        return 0

    def cuGraphNodeGetType(self, node, out):
        out._obj.value = self.nodes[node][0]
        return 0

    def cuGraphKernelNodeGetParams_v2(self, node, out):
        out._obj.func = self.nodes[node][1]
        return 0

    def cuFuncGetName(self, out, function):
        out._obj.value = self.functions[function].encode()
        return 0

    def cuGraphDestroy(self, graph):
        return 0

    cuGraphExecDestroy = cuGraphDestroy


class Pinned(np.ndarray):
    def __new__(cls, size):
        return np.zeros(size, np.uint8).view(cls)

    ptr = property(lambda self: self.ctypes.data)


class FakeDevice:
    compute_capability = "90"

    def __init__(self, index):
        self.id = index

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Module:
    def __init__(self, gpu):
        self.gpu = gpu

    def load(self, code):
        self.code = code

    def get_function(self, name):
        number = next(self.gpu.numbers)
        self.gpu.functions[number] = name
        return types.SimpleNamespace(ptr=number)
