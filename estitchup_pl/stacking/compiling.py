"""What stands between a step and the device: nothing, a CUDA graph, or a compiler and a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
import torch._dynamo

from estitchup_pl.errors import ConfigError

Compile = Literal["auto", "none", "graph", "inductor"]

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")

WARM_UP = 3
"""Calls before a graph is captured, in which libraries choose their algorithms."""


def choose_compile(option: Compile, device: torch.device) -> Compile:
    """Resolve ``"auto"``: a compiler and a graph on a GPU, nothing on a CPU.

    Raises:
        ConfigError: For a graph where there is no GPU, or an option that does not exist.
    """
    if option not in ("auto", "none", "graph", "inductor"):
        raise ConfigError(f'compile must be "auto", "none", "graph" or "inductor", got {option!r}')
    if option == "graph" and device.type != "cuda":
        raise ConfigError('compile="graph" needs a GPU of NVIDIA\'s: choose compile="none"')
    if option == "auto":
        return "inductor" if device.type == "cuda" else "none"
    return option


def compiled(function: Function, option: Compile) -> Function:
    """Give a function to the compiler if the option says so."""
    return torch.compile(function) if option == "inductor" else function  # type: ignore[return-value]


def captured(function: Callable[[], Result], option: Compile, device: torch.device) -> Callable[[], Result]:
    """Make one launch of everything that a function does on a GPU.

    The function is called a few times, then its kernels are recorded: it must do the same each time, on the same
    memory, and wait for nothing. Its result lies in the same memory after each call.
    """
    if option == "none":
        return function
    # Each stack is compiled anew; by default a function that was compiled eight times is not compiled again.
    with torch._dynamo.config.patch(recompile_limit=1024, accumulated_recompile_limit=1024):
        return _captured(function, device)


def _captured(function: Callable[[], Result], device: torch.device) -> Callable[[], Result]:
    if device.type != "cuda":
        function()  # compiles
        return function
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()

    def replay() -> Result:
        graph.replay()
        return result

    return replay
