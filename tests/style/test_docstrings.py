"""Every public name says in one line what it is."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import fgrad


def _public_modules() -> list[ModuleType]:
    names = ["fgrad"]
    for info in pkgutil.walk_packages(fgrad.__path__, "fgrad."):
        parts = info.name.split(".")
        # backends.cuda needs CuPy to be imported at all.
        if not any(part.startswith("_") for part in parts) and parts[1:3] != ["backends", "cuda"]:
            names.append(info.name)
    return [importlib.import_module(name) for name in names]


def _public_members(module: ModuleType) -> Iterator[tuple[str, object]]:
    listed = getattr(module, "__all__", None)
    for name in listed if listed is not None else vars(module):
        if name.startswith("_"):
            continue
        value = getattr(module, name)
        defined_here = getattr(value, "__module__", None) == module.__name__
        documentable = inspect.isroutine(value) or inspect.isclass(value)
        if documentable and (listed is not None or defined_here):
            yield f"{module.__name__}.{name}", value


def _public_methods(cls: type, where: str) -> Iterator[tuple[str, object]]:
    for name, value in vars(cls).items():
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
            yield f"{where}.{name}", getattr(cls, name)


def _fault(value: object) -> str | None:
    doc = inspect.getdoc(value)
    if not doc:
        return "no docstring"
    summary, _, rest = doc.partition("\n")
    if not summary.rstrip().endswith((".", "?", "!")):
        return f"the summary line is not one sentence: {summary!r}"
    if rest and rest.split("\n")[0].strip():
        return "no empty line after the summary line"
    return None


def _is_ours(value: object) -> bool:
    return (getattr(value, "__module__", None) or "fgrad").startswith("fgrad")


def test_every_module_says_what_it_holds():
    faults = {m.__name__: _fault(m) for m in _public_modules()}
    assert not {name: fault for name, fault in faults.items() if fault}


def test_every_public_name_has_a_docstring_with_a_summary():
    faults = {}
    for module in _public_modules():
        for where, value in _public_members(module):
            if not _is_ours(value):
                continue
            members = [(where, value)]
            if inspect.isclass(value):
                members += _public_methods(value, where)
            faults.update({at: fault for at, v in members if (fault := _fault(v))})
    assert not faults


def test_every_listed_public_name_exists():
    for module in _public_modules():
        listed = getattr(module, "__all__", [])
        assert len(listed) == len(set(listed)), f"{module.__name__}.__all__ repeats a name"
        missing = [name for name in listed if not hasattr(module, name)]
        assert not missing, f"{module.__name__}.__all__ names what is not there: {missing}"
