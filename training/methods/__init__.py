"""Trains and compares methods on CMU-MOSI: adapters of every family beside four baselines, one harness."""

from __future__ import annotations

from edgeemo.training.methods.compare import MethodResult, method_result
from edgeemo.training.methods.networks import Network, networks_of
from edgeemo.training.methods.run import Record, load_record, run_network

__all__ = [
    "MethodResult",
    "Network",
    "Record",
    "load_record",
    "method_result",
    "networks_of",
    "run_network",
]
