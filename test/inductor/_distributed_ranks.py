# Owner(s): ["module: inductor"]
"""Two ranks, each a process of its own, that run the same function."""

import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import connection
from typing import Any

import torch._inductor.config as inductor_config
import torch.distributed as dist


WORLD_SIZE = 2
# Ranks that wait for each other for ever are killed after this many seconds.
PATIENCE = 300


def run_ranks(function: Callable[..., Any], *args: Any) -> list[Any]:
    """What ``function(rank, *args)`` returns on each rank of a gloo process group.

    The function has to be a top level one. If it raises or hangs on a rank, the other
    one is killed, and an AssertionError says what happened.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(target=_run, args=(rank, folder, function, args))
            for rank in range(WORLD_SIZE)
        ]
        try:
            for one in ranks:
                one.start()
            _join(ranks, folder)
        finally:
            for one in ranks:
                one.kill()
                one.join()
        return [_read(folder, "result", rank) for rank in range(WORLD_SIZE)]


def _join(ranks: Sequence[Any], folder: str) -> None:
    deadline = time.monotonic() + PATIENCE
    running = {one.sentinel: rank for rank, one in enumerate(ranks)}
    while running:
        ended = connection.wait([*running], deadline - time.monotonic())
        if not ended:
            raise AssertionError(f"ranks {[*running.values()]} hang")
        for sentinel in ended:
            rank = running.pop(sentinel)
            ranks[rank].join()
            if ranks[rank].exitcode != 0:
                told = _read(folder, "error", rank) or f"exit {ranks[rank].exitcode}"
                raise AssertionError(f"rank {rank}: {told}")


def _run(rank: int, folder: str, function: Callable[..., Any], args: Any) -> None:
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{os.path.join(folder, 'store')}",
            rank=rank,
            world_size=WORLD_SIZE,
        )
        # Compile workers take longer to start than they would save.
        inductor_config.compile_threads = 1
        _write(folder, "result", rank, function(rank, *args))
        # None leaves while the other one may still ask it something.
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        _write(folder, "error", rank, traceback.format_exc())
        os._exit(1)  # whatever hangs in other threads


def _write(folder: str, what: str, rank: int, value: Any) -> None:
    with open(os.path.join(folder, f"{what}_{rank}"), "wb") as file:
        pickle.dump(value, file)


def _read(folder: str, what: str, rank: int) -> Any:
    try:
        with open(os.path.join(folder, f"{what}_{rank}"), "rb") as file:
            return pickle.load(file)
    except FileNotFoundError:
        return None
