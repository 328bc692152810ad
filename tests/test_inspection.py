"""What a compiled program tells about itself: kernels, steps, costs, HTML, the times of a call."""

import html.parser
import json
import linecache
import re

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.core import config
from fgrad.errors import ArgumentError, KeyReuseError

X, W = np.ones((8, 4), np.float32), np.ones((4, 6), np.float32)


def network(x, w):
    h = fnp.tanh(x @ w)  # a < b & c
    return fnp.sum(fnp.sort(h, -1) * 2.0, 0)


def lowered(f=network, *args):
    return fg.jit(f).lower(*(args or (X, W)))


def test_a_kernel_tells_all_that_it_is_made_of():
    first, last = lowered().kernels()
    assert first.name == "tanh"
    assert first.source.startswith("target") or "define void @kernel" in first.source
    assert first.grid >= 1
    assert (first.flops, first.bytes) == (48, 2 * 48 * 4)
    assert [e.primitive.name for e in last.equations] == ["mul", "reduce_sum"]
    assert [re.search(r":(\d+) \(network\)", line).group(1) for line in last.lines] == [
        str(network.__code__.co_firstlineno + 2)
    ]


def test_the_schedule_lists_each_step_with_what_it_writes_and_costs():
    steps = lowered().schedule()
    assert [(s.kind, s.name) for s in steps] == [
        ("library", "dot_general"), ("kernel", "tanh"), ("library", "sort"),
        ("kernel", "mul_reduce_sum"),
    ]  # fmt: skip
    assert steps[0].buffers == steps[1].buffers == ("float32[8, 6]",)
    assert steps[0].flops == 2 * 8 * 6 * 4
    assert steps[0].bytes == X.nbytes + W.nbytes + 8 * 6 * 4
    costs = lowered().cost_analysis()
    assert costs == {
        "flops": sum(s.flops for s in steps), "bytes accessed": sum(s.bytes for s in steps),
    }  # fmt: skip


def test_loops_around_functions_of_the_user_are_host_steps():
    def f(x):
        def body(c, _):
            return fg.pure_callback(np.sin, c, c), None

        y = fg.lax.scan(body, x, None, length=2)[0]
        fg.debug.callback(lambda v: None, y)
        return fg.lax.scan(lambda c, _: (c @ c, None), x, None, length=2)[0]

    kinds = [s.kind for s in lowered(f, np.ones((2, 2), np.float32)).schedule()]
    assert kinds[:2] == ["host", "host"]
    assert "host" not in kinds[2:]


def test_steps_and_memory_print_in_a_few_lines():
    def f(x):
        y = fnp.sin(x)
        return fg.lax.fori_loop(0, 3, lambda i, c: fnp.linalg.solve(c, c), y)

    x = np.ones((2, 2), np.float32)
    low = lowered(f, x)
    line = f.__code__.co_firstlineno + 1
    sine, loop = low.schedule()
    assert repr(sine) == (
        f"kernel sin writes float32[2, 2]: 4 operations, 32 bytes\n  at {__file__}:{line} "
        f"({f.__qualname__})"
    )
    lines = repr(loop).splitlines()
    assert lines[0].startswith("host scan writes ")
    assert lines[2].startswith("  only Python can run solve")
    assert any(found.startswith("  library solve writes float32[2, 2]: ") for found in lines)
    memory = low.memory_analysis()
    assert str(memory).startswith(f"{memory.peak_bytes:,} bytes at the peak: inputs 16, results ")


def test_lines_that_widen_to_64_bits_are_listed_also_in_loops():
    def f(x, y):
        x = x + np.float32(1) + 1.0
        x = fg.lax.scan(lambda c, _: (c, c * np.float64(2)), x, None, length=2)[1]
        return x * y, fnp.arange(3)

    x, y = np.ones(3, np.float32), np.ones(3)
    (line,) = fg.jit(f).lower(x, y).widened()
    assert line.endswith("(test_lines_that_widen_to_64_bits_are_listed_also_in_loops.<locals>.f."
                         "<locals>.<lambda>): convert_element_type f32[3] -> f64[3]")  # fmt: skip
    assert fg.jit(lambda x: x + 1.0).lower(x).widened() == ()
    (line,) = fg.jit(lambda x: x.astype("complex128")).lower(x).widened()
    assert line.endswith("convert_element_type f32[3] -> c128[3]")


# ------------------------------------------------------------------------------------------- HTML


class Tags(html.parser.HTMLParser):
    """Fails unless tags are balanced; keeps the text and attributes."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.links, self.ids = [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        found = dict(attrs)
        assert not {"src", "onclick", "onload"} & found.keys()
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_html_leads_from_each_user_line_to_its_steps():
    page = lowered()._repr_html_()
    tags = Tags(page)
    assert set(tags.links) == {f"#{i}" for i in tags.ids}
    assert len(tags.ids) == 4
    text = "".join(tags.text)
    first, second = network.__code__.co_firstlineno + 1, network.__code__.co_firstlineno + 2
    assert f"{first}     h = fnp.tanh(x @ w)  # a < b & c  0 1\n" in text
    assert f"{second}     return fnp.sum(fnp.sort(h, -1) * 2.0, 0)  2 3\n" in text
    assert "kernel tanh outer[] inner[48] kept 0" in text
    equations = str(lowered().optimized).splitlines()[1:-1]
    assert len(equations) == 5
    assert all(e.strip() in text for e in equations)  # variables have the program's names
    assert "4 steps, 2 of them kernels" in text
    assert "<script" not in page
    assert "http" not in page
    assert "url(" not in page
    assert "@import" not in page


def test_html_escapes_what_the_user_has_named():
    def f(x):
        with fg.named_scope("<b>&"):
            return x * 2.0

    f.__name__ = "<i>"
    page = lowered(f, X)._repr_html_()
    Tags(page)
    assert "<b>&amp;" not in page
    assert "&lt;b&gt;&amp;" in page
    assert "<i>" not in page


@pytest.mark.parametrize("kept", [True, False])
def test_html_shows_cells_of_notebooks_and_does_without_sources(kept):
    name, text = "<cell 1>", "def f(x):\n    y = x * 3.0\n    return y + 1.0\n"
    space = {}
    exec(compile(text, name, "exec"), space)
    if kept:  # as IPython does
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    try:
        found = "".join(Tags(lowered(space["f"], X)._repr_html_()).text)
    finally:
        linecache.cache.pop(name, None)
    assert "<cell 1>" in found
    assert ("   2     y = x * 3.0  0\n" in found) is kept
    assert ("   2 (the source is not available)  0\n" in found) is not kept


def test_html_leads_from_lines_in_loops_to_the_loop():
    def f(x):
        def body(c, _):
            return fnp.sin(c) + 1.0, None

        return fg.lax.scan(body, x, None, length=3)[0]

    text = "".join(Tags(lowered(f, X)._repr_html_()).text)
    assert "            return fnp.sin(c) + 1.0, None  0\n" in text
    assert "        return fg.lax.scan(body, x, None, length=3)[0]  0\n" in text


def test_html_of_a_program_that_numpy_runs():
    with config.cpu_compiler("numpy"):
        tags = Tags(lowered()._repr_html_())
    assert "0 of them kernels" in "".join(tags.text)


# ------------------------------------------------------------------------------ programs that run


def test_a_compiled_program_takes_the_arguments_of_the_function():
    def f(p, n, *, scale):
        return {"y": p["x"] * n * scale}

    compiled = fg.jit(f, static_argnums=1).lower({"x": X}, 3, scale=2.0).compile()
    np.testing.assert_array_equal(compiled({"x": X}, scale=2.0)["y"], 6 * X)
    assert repr(compiled) == "Compiled(f: 1 steps)"


def test_arguments_that_do_not_fit_are_refused():
    compiled = lowered(lambda p: p["x"] * 2.0, {"x": X}).compile()
    with pytest.raises(ArgumentError, match=r"for f32\[8,4\] as argument 0\['x'\], got f64"):
        compiled({"x": X.astype(np.float64)})
    for args, kwargs, told in (
        ((X,), {}, r"dict with keys \['x'\] as argument 0, got a leaf of type ndarray"),
        (({"x": [X]},), {}, r"a leaf as argument 0\['x'\], got list of length 1; leave static"),
        (({"x": X}, 2), {}, "1 positional arguments, got 2"),
        ((), {"p": {"x": X}}, "1 positional arguments, got 0"),
        (({"x": X},), {"n": 2}, r"keyword arguments \[\], got \['n'\]"),
    ):
        with pytest.raises(ArgumentError, match=told):
            compiled(*args, **kwargs)
    with pytest.raises(ArgumentError, match="a traced f32"):
        fg.grad(lambda x: fnp.sum(compiled({"x": x})))(X)
    with pytest.raises(ArgumentError, match="compiled for"):
        compiled.trace({"x": X[0]})


def test_a_compiled_program_uses_up_its_random_keys():
    key = fg.random.key(0)
    compiled = lowered(lambda k: fg.random.normal(k, (3,)), key).compile()
    compiled(key)
    with pytest.raises(KeyReuseError):
        compiled(key)


# ------------------------------------------------------------------------------ the times of a call


@pytest.mark.parametrize("compiler", ["llvm", "numpy"])
def test_a_trace_has_one_event_a_step_in_order(tmp_path, compiler):
    with config.cpu_compiler(compiler):
        low = lowered()
        trace = low.compile().trace(X, W)
        steps, program = low.schedule(), low.optimized
    assert [s.step for s in trace.slices] == [
        s._replace(equations=t.step.equations) for s, t in zip(steps, trace.slices, strict=True)
    ]
    path = tmp_path / "call.json"
    trace.save(path)
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["displayTimeUnit"] == "ns"
    events = [e for e in read["traceEvents"] if e["ph"] == "X"]
    assert [e["name"] for e in events] == [s.name for s in steps]
    assert [e["cat"] for e in events] == [s.kind for s in steps]
    end = 0.0
    for event, step in zip(events, steps, strict=True):
        assert event["dur"] > 0
        assert event["ts"] >= end - 1e-6
        end = event["ts"] + event["dur"]
        assert (event["args"]["bytes"], event["args"]["flops"]) == (step.bytes, step.flops)
        printed = str(program).splitlines()
        assert event["args"]["equations"]
        assert all(f"    {e}" in printed for e in event["args"]["equations"])
        assert "test_inspection.py" in event["args"]["lines"][0]
    named = {(e["name"], e["tid"]) for e in read["traceEvents"] if e["ph"] == "M"}
    assert named == {("process_name", 0), ("thread_name", events[0]["tid"])}
    assert re.match(r"dot_general +library +[\d.]+ µs +[\d.]+ GB/s +[\d.]+ Gop/s\n", repr(trace))


def test_kernels_of_one_form_are_one_step_and_donated_arguments_stay():
    many = [np.full((4 + i, 8), i, np.float32) for i in range(6)]
    f = fg.jit(lambda ps, gs: [p - fnp.tanh(g) for p, g in zip(ps, gs, strict=True)],
               donate_argnums=0)  # fmt: skip
    given = [fnp.array(p) for p in many]
    low = f.lower(given, many)
    (step,) = low.schedule()
    assert len(step.buffers) == len(low.kernels()) == 6
    assert len(step.equations) == 12
    assert low._repr_html_().count("kernel tanh_sub") == 6
    (one,) = low.compile().trace(given, many).slices
    assert (one.step.flops, one.step.bytes) == (step.flops, step.bytes)
    np.testing.assert_array_equal(given[5], many[5])


def test_a_trace_measures_what_takes_long():
    def slow(x):
        import time

        time.sleep(0.02)
        return x

    trace = lowered(lambda x: fg.pure_callback(slow, x, x * 2.0) + 1.0, X).compile().trace(X)
    (host,) = [s for s in trace.slices if s.step.kind == "host"]
    assert host.duration_us >= 20_000
    assert host.duration_us > 0.5 * sum(s.duration_us for s in trace.slices)


def test_tracing_a_call_runs_effects_once_and_measures_a_program_without_steps():
    seen = []

    def f(x):
        fg.debug.callback(lambda v: seen.append(1), x)
        return x

    lowered(f, X).compile().trace(X)
    assert seen == [1]
    trace = lowered(lambda x: x, X).compile().trace(X)
    assert trace.slices == ()
    assert repr(trace) == "<lambda>: no steps"
