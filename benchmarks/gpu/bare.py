"""The bare call of a library that a runner stands on: the same work, nothing checked."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.gpu.timing import Call
from edgeemo.runtimes.base import Array, Runner
from edgeemo.runtimes.ort import OrtRunner
from edgeemo.runtimes.ort_bound import BoundOrtRunner
from edgeemo.runtimes.trt import TrtRunner


def bare_call(runner: Runner, feed: Mapping[str, Array]) -> Call:
    """Returns what a program would call that used the library by itself.

    onnxruntime on the CPU: ``InferenceSession.run``. With I/O binding: filling the bound inputs, the run,
    and reading the outputs. TensorRT: the replay of the graph (or copies and ``execute_async_v3``) and the
    wait for the stream; that leaves the copies between the caller's arrays and page-locked memory to us.

    Args:
        runner: one of ours, open.
        feed: what it is fed.
    """
    if isinstance(runner, BoundOrtRunner):
        session, binding = runner.session, runner._binding
        pairs = [(value, feed[name]) for name, value in runner._in.items()]
        outputs = list(runner._out.values())

        def bound() -> None:
            for value, array in pairs:
                value.update_inplace(array)
            session.run_with_iobinding(binding)
            for value in outputs:
                value.numpy()

        return bound
    if isinstance(runner, TrtRunner):
        cuda, stream = runner.gpu.cuda, runner._stream

        def launched() -> None:
            with runner.gpu:
                if runner._graph is not None:
                    cuda.launch(runner._graph, stream)
                else:
                    runner._enqueue()
                cuda.synchronize(stream)

        return launched
    if isinstance(runner, OrtRunner):
        session, names, plain = runner.session, [spec.name for spec in runner.outputs], dict(feed)
        return lambda: session.run(names, plain)
    raise TypeError(f"{runner!r} stands on no library that is known here")
