# Owner(s): ["module: inductor"]
"""Ranks of a distributed job that tune by themselves, and have to run the same."""

import contextlib
import functools
import os
import tempfile
import traceback
from unittest import mock

import pytest
from _distributed_ranks import run_ranks
from _planted_times import planted_times

import torch
import torch.distributed as dist
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.distributed import agreement, in_step, ranks
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.range_dispatch.tuning import winners as choosing
from torch._inductor.test_case import run_tests, TestCase
from torch.nn.parallel import DistributedDataParallel


SPLITS = [8, 100]
# Unlike every size that is dispatched on: equal sizes would share a symbol.
WIDTH = 6
_library = torch.library.Library("range_ranks", "FRAGMENT")


# Matrix products alone: there is no kernel to compile.
def once(x, w):
    return torch.mm(x, w)


def twice(x, w):
    return torch.mm(torch.mm(x, w), w)


def turned(x, w):
    return torch.mm(x, w.t())


IMPLEMENTATIONS = [once, twice, turned]


def _summed(x):
    total = torch.ops._c10d_functional.all_reduce(x, "sum", "0")
    return torch.ops._c10d_functional.wait_tensor(total)


def summed_late(x, w):
    return _summed(torch.mm(x, w))


def summed_early(x, w):
    return torch.mm(_summed(x), w)


def sum_itself(x, w):
    y = torch.mm(x, w)
    dist.all_reduce(y)
    return y


def define(name, own=twice):
    _library.define(f"{name}(Tensor x, Tensor w) -> Tensor")
    _library.impl(name, own, "CompositeExplicitAutograd")
    torch.library.register_fake(
        f"range_ranks::{name}",
        lambda x, w: x.new_empty(x.shape[0], w.shape[1]),
        lib=_library,
    )
    return getattr(torch.ops.range_ranks, name).default


def register(op, implementations=IMPLEMENTATIONS, split_points=SPLITS, **options):
    if split_points:
        options["dispatch_on"] = {
            "tensor_name": "x",
            "dim": 0,
            "range_upper_bound": 200,
        }
        options["split_points"] = split_points
    return custom_op_autotuning(
        op, configs=[CustomOpConfig(one) for one in implementations], **options
    )


def planted(*fastest):
    """Timing finds ``fastest`` in the ranges of SPLITS, or one of them everywhere."""

    def milliseconds(candidate, inputs):
        index = sum(inputs[0].shape[0] > point for point in SPLITS) % len(fastest)
        return 1.0 + (candidate.name != fastest[index])

    return planted_times(milliseconds)


def weight(width=WIDTH):
    return torch.randn(width, width, generator=torch.Generator().manual_seed(0))


def compiled(function, **options):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, **{"dynamic": True, **options})


def winners(records):
    return [[row.winner for row in record.ranges] for record in records]


def ran(call, w, sizes=(5, 8, 9, 100, 101)):
    """Which implementation the call's results tell of, for each size."""
    names = []
    for size in sizes:
        x = torch.randn(size, w.shape[0])
        names += which(call(x, w), x, w)
    return names


def which(result, x, w):
    return [f.__name__ for f in IMPLEMENTATIONS if torch.allclose(result, f(x, w))]


def tune_and_run(op, *fastest, sizes=(5, 8, 9, 100, 101), **options):
    """Winners as recorded, and as run."""
    with planted(*fastest), register(op, **options), record_dispatches() as records:
        names = ran(compiled(op), weight(), sizes)
    return winners(records), names


@contextlib.contextmanager
def own_cache(**options):
    """A folder of this rank's own for all caches, which it leaves behind."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": folder}),
        config.patch(**options),
    ):
        yield


def alone():
    """As if this rank were a job of its own."""
    return mock.patch.object(agreement, "find_peers", return_value=None)


# What a rank does. Rank 0 and rank 1 are made to prefer different implementations.


def plain(rank):
    op = define("plain")
    return tune_and_run(op, ["once", "turned"][rank], split_points=None)


def ranged(rank):
    op = define("ranged")
    fastest = [("once", "turned", "twice"), ("turned", "twice", "once")][rank]
    sizes = [(20, 5, 8, 9, 100, 101), (5, 8, 9, 100, 101)][rank]
    return tune_and_run(op, *fastest, sizes=sizes)


def searched(rank):
    """Each rank would split elsewhere, and rank 1 more often."""
    op = define("searched")

    def milliseconds(candidate, inputs):
        split = [40, 9][rank]
        fastest = ["once", "turned"][inputs[0].shape[0] > split]
        return 1.0 + (candidate.name != fastest)

    with (
        planted_times(milliseconds),
        register(op, split_points="auto"),
        record_dispatches() as records,
    ):
        call = compiled(op)
        names = ran(call, weight(), (20,))
        splits = [row.size_range.end for row in records[0].ranges[:-1]]
        sizes = [n for split in splits for n in (split, split + 1)]
        names += ran(call, weight(), sizes)
    return winners(records), splits, names


def two_ops(rank):
    first, second = define("first_of_two"), define("second_of_two")
    with (
        planted(*[("once", "twice", "once"), ("turned",)][rank]),
        register(first),
        register(second, split_points=None),
        record_dispatches() as records,
    ):
        call = compiled(lambda x, w: (first(x, w), second(x, w)))
        names = [ran(lambda *args, i=i: call(*args)[i], weight()) for i in (0, 1)]
    return winners(records), names


def repeated_calls(rank):
    """One op with weights of several sizes; the ranks do not compile in step."""
    op = define("repeated")
    found = []
    for number, width in enumerate((5, 6, 7)):
        fastest = IMPLEMENTATIONS[(number + rank) % 3].__name__
        with planted(fastest), register(op), record_dispatches() as records:
            call = compiled(op, dynamic=None)
            x = torch.randn(20, width)
            torch._dynamo.mark_dynamic(x, 0)
            call(x, weight(width))
        found += winners(records)
    return found


def other_static_sizes(rank):
    """The first call has another size on each rank; later ones make it dynamic."""
    op = define("static")
    fastest = ["once", "turned"][rank]
    with planted(fastest), register(op), record_dispatches() as records:
        call = compiled(op, dynamic=None)
        names = [ran(call, weight(), sizes=[[50, 4][rank]])]
        dist.barrier()
        names += [ran(call, weight(), sizes=(7, 60, 101))]
    return winners(records), names


class Surrounded(torch.nn.Module):
    def __init__(self, op):
        super().__init__()
        self.op = op
        self.before = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.after = torch.nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x, w):
        hidden = self.before(x)
        inner = self.op(hidden.detach(), w)
        return hidden, inner, self.after(inner)


def under_ddp(rank):
    op = define("in_ddp")
    module = DistributedDataParallel(Surrounded(op))
    with (
        planted(["once", "turned"][rank]),
        register(op),
        record_dispatches() as records,
    ):
        torch._dynamo.reset()
        model = torch.compile(module, dynamic=True)
        names = []
        for size in (20 + rank, 5, 101):
            hidden, inner, outer = model(torch.randn(size, WIDTH), weight())
            names += which(inner, hidden, weight())
            (hidden.sum() + outer.sum()).backward()
        gradient = torch.cat([p.grad.flatten() for p in module.parameters()])
    return winners(records), names, gradient.tolist()


def warm_tuning_cache(rank):
    """Rank 1 has times of its own from an earlier job."""
    op = define("warm_times")
    with own_cache(fx_graph_cache=False, autotune_local_cache=True):
        if rank == 1:
            with alone():
                tune_and_run(op, "turned")
        counters.clear()
        # As if it came before rank 0.
        with mock.patch.object(choosing, "decided", return_value=None):
            result = tune_and_run(op, "once")
        return result, counters["inductor"]["custom_op_tuning_cache_hit"]


def warm_graph_cache(rank):
    """Each rank has a graph from an earlier job, with a choice of its own."""
    op = define("warm_graph")
    with own_cache(fx_graph_cache=True):
        with alone():
            tune_and_run(op, ["once", "turned"][rank])
        counters.clear()
        found, names = tune_and_run(op, ["twice", "turned"][rank])
        hits = counters["inductor"]["fxgraph_cache_hit"]
        # What was compiled now serves from now on.
        counters.clear()
        _, later = tune_and_run(op, "twice")
        return found, names, hits, later, counters["inductor"]["fxgraph_cache_hit"]


def switched_off(rank):
    op = define("off")
    with config.patch({"range_dispatch.agree_on_winners": False}):
        return tune_and_run(op, ["once", "turned"][rank])


def rank_0_absent(rank):
    op = define("absent")
    if rank == 0:
        return None
    with config.patch({"range_dispatch.agreement_timeout_seconds": 0.5}):
        try:
            tune_and_run(op, "turned", "once", "turned")
        except Exception as error:
            message = str(error)
    given = {"winners": [2, 0, 2]}
    return message, tune_and_run(op, "twice", **given)


def dropped_by_one(rank):
    """Rank 0 takes what rank 1 cannot trace."""
    op = define("dropped")

    def fragile(x, w):
        if rank == 1:
            raise NotImplementedError("not on this rank")
        return once(x, w)

    try:
        return tune_and_run(op, "fragile", implementations=[fragile, turned])[1]
    except Exception as error:
        return str(error)


def collectives(rank):
    op = define("summed", sum_itself)
    given = [summed_late, summed_early]
    with register(op, given, split_points=[8]), record_dispatches() as records:
        call = compiled(op)
        for size in (20, 5, 8, 9):
            x = torch.randn(size, WIDTH)
            torch.testing.assert_close(call(x, weight()), sum_itself(x, weight()))
    return [[(r.winner, r.milliseconds) for r in one.ranges] for one in records]


def collectives_given(rank):
    op = define("summed_given", sum_itself)
    given = [summed_late, summed_early]
    options = {"split_points": [8], "winners": [0, 1]}
    with register(op, given, **options), record_dispatches() as records:
        call = compiled(op)
        for size in (20, 5, 8, 9):
            x = torch.randn(size, WIDTH)
            torch.testing.assert_close(call(x, weight()), sum_itself(x, weight()))
    return winners(records)


def collectives_of_other_sizes(rank):
    """Only the results have the same size on both ranks: the op itself can run."""
    op = define("summed_apart", sum_itself)
    x, w = torch.randn(9, 5 + rank), torch.randn(5 + rank, 5)
    with register(op, [summed_late, summed_early]), record_dispatches() as records:
        result = compiled(op, dynamic=False)(x, w)
    torch.testing.assert_close(result, sum_itself(x, w))
    return winners(records)


SCENARIOS = [
    plain,
    ranged,
    searched,
    two_ops,
    repeated_calls,
    other_static_sizes,
    under_ddp,
    warm_tuning_cache,
    warm_graph_cache,
    switched_off,
    rank_0_absent,
    dropped_by_one,
    collectives,
    collectives_given,
    collectives_of_other_sizes,
]


def run_scenarios(rank):
    seen = {}
    with config.patch(fx_graph_cache=False, autotune_local_cache=False):
        for scenario in SCENARIOS:
            try:
                seen[scenario.__name__] = scenario(rank)
            except Exception:
                seen[scenario.__name__] = traceback.format_exc()
            dist.barrier()
    return seen


@functools.cache
def seen_by_ranks():
    """All scenarios run in one pair of processes, as starting them takes longest."""
    return run_ranks(run_scenarios)


class AgreementTest(TestCase):
    def seen(self, scenario):
        """What the ranks saw, or the error of one."""
        return [seen[scenario.__name__] for seen in seen_by_ranks()]

    def both(self, scenario):
        """What both ranks saw, which has to be the same."""
        first, second = self.seen(scenario)
        self.assertEqual(first, second)
        return first

    def test_plain(self):
        found, names = self.both(plain)
        self.assertEqual(found, [["once"]])
        self.assertEqual(names, ["once"] * 5)

    def test_ranged(self):
        (found, names), (found_1, names_1) = self.seen(ranged)
        self.assertEqual(found, [["once", "turned", "twice"]])
        self.assertEqual(found_1, found)
        self.assertEqual(names[1:], ["once", "once", "turned", "turned", "twice"])
        self.assertEqual(names_1, names[1:])

    def test_found_split_points(self):
        winners, (split,), names = self.both(searched)
        self.assertEqual(winners, [["once", "turned"]])
        self.assertTrue(38 <= split <= 42, split)
        self.assertEqual(names, ["once", "once", "turned"])

    def test_two_ops(self):
        found, names = self.both(two_ops)
        self.assertEqual(found, [["once", "twice", "once"], ["once"]])
        self.assertEqual(names[0], ["once", "once", "twice", "twice", "once"])
        self.assertEqual(names[1], ["once"] * 5)

    def test_repeated_calls(self):
        found = self.both(repeated_calls)
        self.assertEqual(found, [["once"] * 3, ["twice"] * 3, ["turned"] * 3])

    def test_other_static_sizes(self):
        """Nobody waits for a choice that rank 0 does not make; a choice once made
        stays."""
        (found, names), (found_1, names_1) = self.seen(other_static_sizes)
        self.assertEqual(names[0], ["once"])
        self.assertEqual(names_1[0], ["turned"])
        self.assertEqual(found[1], found_1[1])
        self.assertEqual(found[1][:2], ["turned", "once"])
        self.assertEqual(names[1], names_1[1])

    def test_under_ddp(self):
        found, names, _ = self.both(under_ddp)
        self.assertEqual(found, [["once"] * 3])
        self.assertEqual(names, ["once"] * 3)

    def test_warm_tuning_cache_on_one_rank(self):
        (result, hits), (result_1, hits_1) = self.seen(warm_tuning_cache)
        self.assertEqual(result, ([["once"] * 3], ["once"] * 5))
        self.assertEqual(result_1, result)
        self.assertEqual(hits, 0)
        self.assertEqual(hits_1, 7)  # three sizes in each closed range

    @pytest.mark.slow
    def test_cached_graph_serves_only_with_the_agreed_winners(self):
        mine, other = self.seen(warm_graph_cache)
        found, names, hits, later, later_hits = mine
        self.assertEqual((found, names, hits), ([], ["once"] * 5, 1))
        self.assertEqual((later, later_hits), (["once"] * 5, 1))
        found, names, hits, later, later_hits = other
        self.assertEqual((found, names, hits), ([["once"] * 3], ["once"] * 5, 0))
        self.assertEqual((later, later_hits), (["once"] * 5, 1))

    def test_switched_off(self):
        (found, names), (found_1, names_1) = self.seen(switched_off)
        self.assertEqual((found, names), ([["once"] * 3], ["once"] * 5))
        self.assertEqual((found_1, names_1), ([["turned"] * 3], ["turned"] * 5))

    def test_error_where_rank_0_does_not_tune(self):
        _, (message, (_, names)) = self.seen(rank_0_absent)
        self.assertIn("range_ranks.absent.default", message)
        self.assertIn("rank 0", message)
        self.assertIn("within 0.5 seconds", message)
        self.assertIn("winners=[2, 0, 2]", message)
        self.assertIn("agree_on_winners", message)
        self.assertEqual(names, ["turned", "turned", "once", "once", "turned"])

    def test_error_where_a_rank_cannot_run_the_choice(self):
        names, message = self.seen(dropped_by_one)
        self.assertEqual(len(names), 5)
        self.assertIn("which this rank cannot", message)
        self.assertIn("winners=", message)

    def test_collectives_are_timed_in_step(self):
        (found,) = self.both(collectives)
        self.assertEqual(len(found), 2)
        for _, milliseconds in found:
            names = {"summed_late", "summed_early", "fallback"}
            self.assertEqual(set(milliseconds), names)
            self.assertGreater(min(milliseconds.values()), 0)

    def test_given_winners_with_collectives(self):
        self.assertEqual(
            self.both(collectives_given), [["summed_late", "summed_early"]]
        )

    def test_collectives_of_other_sizes_are_not_timed(self):
        for found in self.seen(collectives_of_other_sizes):
            self.assertEqual(found, [["fallback"]])


class PeersTest(TestCase):
    def test_nobody_without_a_process_group(self):
        self.assertFalse(dist.is_initialized())
        self.assertIsNone(ranks.find_peers())

    def test_nobody_in_groups_of_one_process(self):
        from torch.testing._internal.distributed.fake_pg import FakeStore

        for backend, world_size, store in (
            ("fake", 4, FakeStore()),
            ("gloo", 1, dist.HashStore()),
        ):
            dist.init_process_group(backend, rank=0, world_size=world_size, store=store)
            try:
                self.assertIsNone(ranks.find_peers())
            finally:
                dist.destroy_process_group()

    def test_another_process_group_forgets(self):
        """The store of the old one may serve the new one."""
        store = dist.TCPStore("localhost", 0, 1, is_master=True)
        found = []
        for _ in range(2):
            dist.init_process_group("gloo", rank=0, world_size=1, store=store)
            try:
                with mock.patch.object(dist, "get_world_size", return_value=2):
                    peers = ranks.find_peers()
                self.assertIs(ranks.find_peers(), peers)
                found.append(peers.read("key"))
                self.assertEqual(peers.decide("key", "first"), "first")
                self.assertEqual(peers.decide("key", "second"), "first")
            finally:
                dist.destroy_process_group()
            del peers
        self.assertEqual(found, [None, None])


class CommunicatesTest(TestCase):
    def test_collectives_are_found_in_branches(self):
        def branch(x):
            return torch.ops._c10d_functional.all_reduce.default(x, "sum", "0")

        inner = torch.fx.symbolic_trace(branch)
        graph = torch.fx.Graph()
        graph.output(graph.get_attr("branch"))
        outer = torch.fx.GraphModule({"branch": inner}, graph)
        self.assertTrue(in_step.communicates(inner))
        self.assertTrue(in_step.communicates(outer))
        self.assertFalse(in_step.communicates(torch.fx.symbolic_trace(torch.nn.ReLU())))


if __name__ == "__main__":
    run_tests()
