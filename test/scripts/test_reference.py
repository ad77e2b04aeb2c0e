"""docs/reference.md is what scripts/reference.py makes, and leaves nothing out."""

import contextlib
import inspect
import io
import re
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import torch._inductor.config
import torch._inductor.kernel.custom_op as custom_op
from torch._inductor import range_dispatch

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "scripts"))

import reference  # noqa: E402


class TestReference(unittest.TestCase):
    page = reference.PAGE.read_text()
    items = [*reference.settings()]

    def run_it(self, *arguments: str) -> tuple[int, str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = reference.main([*arguments])
        return status, output.getvalue()

    def test_the_page_is_up_to_date(self) -> None:
        status, difference = self.run_it()
        self.assertEqual(difference, "", "call scripts/reference.py --write")
        self.assertEqual(status, 0)

    def test_a_stale_page_is_shown_and_written_again(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.object(reference, "PAGE", folder / "page.md"))
        stale = self.page.replace("min_speedup_threshold: float = 1.0", "gone", 1)
        reference.PAGE.write_text(stale)
        status, difference = self.run_it()
        self.assertEqual(status, 1)
        self.assertIn("+    min_speedup_threshold: float = 1.0,", difference)
        self.assertEqual(self.run_it("--write"), (0, ""))
        self.assertEqual(reference.PAGE.read_text(), self.page)

    def test_every_public_name_has_a_heading(self) -> None:
        for module in (custom_op, range_dispatch):
            for name in module.__all__:
                if callable(getattr(module, name)):
                    self.assertIn(f"\n### {name}\n", self.page)

    def test_every_parameter_of_the_registration_is_described(self) -> None:
        for thing in (
            custom_op.register_custom_op_autotuning,
            custom_op.autotune_custom_op,
            custom_op.CustomOpConfig,
        ):
            text = "\n".join(reference.described(thing))
            for parameter in inspect.signature(thing).parameters.values():
                name = str(parameter).partition(":")[0]
                self.assertIn(f"\n* `{name}`: ", f"\n{text}")
        keys = custom_op.DispatchOnConfig.__annotations__
        text = "\n".join(reference.described(custom_op.DispatchOnConfig))
        self.assertEqual(re.findall(r"^\* `(\w+)`: ", text, re.M), [*keys])

    def test_every_setting_is_there_with_its_default(self) -> None:
        there = dict(re.findall(r"`(\w+): [^=`]+ = (\S+)`", "\n".join(self.items)))
        for name, value in torch._inductor.config.get_config_copy().items():
            section, _, setting = name.partition(".")
            if section == "range_dispatch":
                with self.subTest(setting):
                    self.assertEqual(there.pop(setting), repr(value))
        self.assertEqual(there, {})

    def test_every_environment_variable_is_there(self) -> None:
        there = re.findall(r"environment: `(\w+)`", "\n".join(self.items))
        read: set[str] = set()
        for folder in ("torch_overlay", "patches", "range_tuning"):
            for file in (PROJECT / folder).rglob("*.p*"):
                if file.suffix in (".py", ".patch"):
                    text = file.read_text()
                    read.update(re.findall(r"TORCHINDUCTOR_RANGE_DISPATCH_\w+", text))
        self.assertEqual(read, {*there})

    def test_the_settings_of_inductor_that_it_names_exist(self) -> None:
        section = self.page.partition("also decide which candidate runs")[2]
        names = re.findall(r"`([\w.]+)`[,:]", section.partition("## Logs")[0])
        self.assertIn("test_configs.force_no_impl_grouping", names)
        for name in names:
            thing: object = torch._inductor.config
            for part in name.split("."):
                self.assertTrue(hasattr(thing, part), name)
                thing = getattr(thing, part)


if __name__ == "__main__":
    unittest.main()
