"""Every attribute and call of TensorRT in `runtimes` exists in the real bindings and takes what it is given.

A typo in a line that only a GPU reaches fails here. Roles say which class a name in the code stands for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")

RUNTIMES = Path(__file__).resolve().parents[2] / "runtimes"
MODULE = "module"
ROLES = {
    "plans/build.py": {
        "trt": MODULE,
        "library.module": MODULE,
        "builder": "Builder",
        "network": "INetworkDefinition",
        "parser": "OnnxParser",
        "config": "IBuilderConfig",
        "profile": "IOptimizationProfile",
        "cache": "ITimingCache",
        "learned": "ITimingCache",
        "network.get_input()": "ITensor",
        "parser.get_error()": "ParserError",
    },
    "plans/progress.py": {"library.module": MODULE},
    "trt_library.py": {"module": MODULE},
    "plans/source.py": {"library.module": MODULE},
    "trt.py": {
        "trt": MODULE,
        "library.module": MODULE,
        "self.library.module": MODULE,
        "modes": "TensorIOMode",
        "strategies": "DynamicShapesKernelSpecializationStrategy",
        "runtime": "Runtime",
        "engine": "ICudaEngine",
        "self._engine": "ICudaEngine",
        "self._context": "IExecutionContext",
        "config": "IRuntimeConfig",
        "cache": "IRuntimeCache",
        "self._cache": "IRuntimeCache",
    },
}
OURS = {"trt_library.py": {"module.__version__", "module.__name__"}}
BY_NAME = {  # asked for with getattr or hasattr, as full TensorRT lacks them
    "is_stream_capturable": "IExecutionContext",
    "create_runtime_config": "ICudaEngine",
    "create_runtime_cache": "IRuntimeConfig",
}


def spelled(node: ast.AST) -> str:
    """Returns ``self._engine.get_tensor_name`` or ``network.get_input()`` for a node; empty for others."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = spelled(node.value)
        return f"{before}.{node.attr}" if before else ""
    if isinstance(node, ast.Call):
        before = spelled(node.func)
        return f"{before}()" if before else ""
    return ""


def uses(name: str) -> Iterator[tuple[str, str, ast.Attribute, ast.Call | None]]:
    """Yields (class, attribute path, node, its call) for everything that a file asks of TensorRT."""
    tree = ast.parse((RUNTIMES / name).read_text(encoding="utf-8"))
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        path = spelled(node)
        if path in ROLES[name] or path in OURS.get(name, ()):
            continue
        roots = [role for role in ROLES[name] if path.startswith(f"{role}.")]
        if roots:
            root = max(roots, key=len)
            yield ROLES[name][root], path[len(root) + 1 :], node, called.get(id(node))


def resolve(kind: str, path: str) -> Any:
    value = trt if kind == MODULE else getattr(trt, kind)
    for part in path.split("."):
        value = getattr(value, part)
    return value


def takes(function: Any, count: int) -> bool:
    """Tells whether pybind11's own signatures allow this many arguments behind ``self``."""
    signatures = re.findall(r"^\s*(?:\d+\. )?\w+\((self: [^\n]*)\) ->", function.__doc__ or "", re.MULTILINE)
    for signature in signatures:
        flat = re.sub(r"\[[^\[\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", signature))
        given = flat.split(", ")[1:]
        needed = sum(" = " not in part for part in given)
        if needed <= count <= len(given):
            return True
    return not signatures  # a class: its constructors are reached by the builds that really run


CASES = [
    pytest.param(*use, id=f"{name}:{use[2].lineno}:{use[0]}.{use[1]}") for name in ROLES for use in uses(name)
]


@pytest.mark.parametrize(("kind", "path", "node", "call"), CASES)
def test_it_is_in_the_real_bindings(kind: str, path: str, node: ast.Attribute, call: ast.Call | None) -> None:
    try:
        found = resolve(kind, path)
    except AttributeError as error:
        pytest.fail(f"line {node.lineno}: {error}")
    if call is not None and kind != MODULE:
        assert takes(found, len(call.args) + len(call.keywords)), f"line {node.lineno}: {found.__doc__}"


@pytest.mark.parametrize(("name", "kind"), BY_NAME.items())
def test_what_is_asked_for_by_name_exists(name: str, kind: str) -> None:
    text = "".join((RUNTIMES / file).read_text(encoding="utf-8") for file in ROLES)
    assert f'"{name}"' in text
    assert callable(getattr(getattr(trt, kind), name))


def test_every_name_that_only_a_gpu_reaches_is_looked_at() -> None:
    """The check would notice: what runs a plan is among the cases."""
    seen = {f"{case.values[0]}.{case.values[1]}" for case in CASES}
    assert {
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.set_tensor_address",
        "IExecutionContext.get_tensor_shape",
        "ICudaEngine.create_execution_context",
        "ICudaEngine.get_tensor_mode",
        "Runtime.deserialize_cuda_engine",
        "IRuntimeCache.serialize",
        "IRuntimeConfig.set_runtime_cache",
        "module.nptype",
        "Runtime.DLA_core",
        "IExecutionContext.set_input_shape",
        "ICudaEngine.get_tensor_profile_shape",
        "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
        "DynamicShapesKernelSpecializationStrategy.EAGER",
        "IBuilderConfig.DLA_core",
        "module.BuilderFlag.GPU_FALLBACK",
    } <= seen


def test_the_arguments_are_counted() -> None:
    assert takes(trt.IExecutionContext.execute_async_v3, 1)
    assert not takes(trt.IExecutionContext.execute_async_v3, 0)
    assert not takes(trt.IExecutionContext.set_tensor_address, 1)
    assert takes(trt.ICudaEngine.create_execution_context, 0)


def test_no_flag_that_tensorrt_11_removed() -> None:
    removed = (
        "FP16",
        "INT8",
        "BF16",
        "int8_calibrator",
        "EXPLICIT_BATCH",
        "max_workspace_size",
        "build_engine",
    )
    for file in (RUNTIMES / name for name in ROLES):
        text = file.read_text(encoding="utf-8")
        assert not [word for word in removed if re.search(rf"\.{word}\b", text)], file.name
