# Owner(s): ["module: inductor"]
"""Custom ops that write to an argument: what they, and those before them, compute of."""

import torch
from torch._inductor.test_case import run_tests, TestCase


_library = torch.library.Library("aliasing_ops", "FRAGMENT")


def define(name, schema, implementation, fake):
    full = f"aliasing_ops::{name}"
    torch.library.define(full, schema, lib=_library)
    torch.library.impl(full, "CompositeExplicitAutograd", implementation, lib=_library)
    torch.library.register_fake(full, fake, lib=_library)
    return getattr(torch.ops.aliasing_ops, name).default


def write_and_read(x, y, size, branch=0):
    x.add_(10)
    return x.sum() + y.sum() + size.sum() + 1000 * branch


def write_both(x, y, size, branch=0):
    x.add_(10 + branch)
    y.mul_(3)
    return x.sum() + size.sum()


def write_list(xs, y, size, branch=0):
    for number, x in enumerate(xs):
        x.add_(10 + number)
        x.mul_(2 + branch)
    return size.sum() if y is None else y.sum() + size.sum()


def _scalar(x, y, size):
    return size.new_empty(())


WRITE_AND_READ = define(
    "write_and_read",
    "(Tensor(a!) x, Tensor y, Tensor size) -> Tensor",
    write_and_read,
    _scalar,
)
WRITE_BOTH = define(
    "write_both",
    "(Tensor(a!) x, Tensor(b!) y, Tensor size) -> Tensor",
    write_both,
    _scalar,
)
WRITE_LIST = define(
    "write_list",
    "(Tensor(a!)[] xs, Tensor? y, Tensor size) -> Tensor",
    write_list,
    _scalar,
)


@torch.compiler.config.patch(force_disable_caches=True)
class CustomOpMutationTest(TestCase):
    def check(self, model, size=6):
        x = torch.arange(size * 8.0).view(size, 8)
        due = x.clone()
        due = model(due), due
        torch._dynamo.reset()
        compiled = torch.compile(model, dynamic=True, fullgraph=True)
        self.assertEqual((compiled(x), x), due)

    def test_copies_of_what_is_written(self):
        def of_an_input(x):
            return WRITE_AND_READ(x, x[:1].clone(), x)

        def view_of_a_copy(x):
            return WRITE_AND_READ(x, x.clone()[:1], x)

        def of_an_intermediate(x):
            y = x * 2
            return WRITE_AND_READ(y, y.clone(), x), y

        def read_again(x):
            y = x.clone()
            return WRITE_AND_READ(x, y, x), y.sum()

        for model in (of_an_input, view_of_a_copy, of_an_intermediate, read_again):
            self.check(model)

    def test_views_of_what_is_not_in_memory(self):
        def read_afterwards(x):
            y = x + 1
            return WRITE_BOTH(y[:-1], y[1:], x), y.sum()

        def written_view(x):
            y = x + 1
            return WRITE_AND_READ(y, y[:1], x)

        def parts(x):
            y = (x + 1).split([5, 3], -1)
            return WRITE_BOTH(y[0][:, :3], y[1], x), y[0].sum()

        for model in (read_afterwards, written_view, parts):
            self.check(model)

    def test_values_before_the_write(self):
        def given_to_the_op(x):
            y = x * 2
            return WRITE_AND_READ(x, y, x), y.sum()

        def view_given_to_the_op(x):
            y = x * 2
            return WRITE_AND_READ(x, y[:4], x), y.sum()

        for model in (given_to_the_op, view_given_to_the_op):
            self.check(model)


if __name__ == "__main__":
    run_tests()
