"""What `make verify-faults` removes, and the tests that must notice, stand where they are said to stand."""

import ast
from collections import Counter
from functools import cache

import pytest

from laptop.stack import REPOSITORY
from tests.verify_faults.guards import Guard
from tests.verify_faults.sabotage import ALL, stale


@cache
def _functions(file: str) -> frozenset[str]:
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("guard", ALL, ids=lambda guard: guard.name)
def test_a_guard_can_be_removed_and_the_test_that_misses_it_exists(guard: Guard) -> None:
    assert stale(guard, REPOSITORY) is None
    assert guard.new != guard.old
    file, _, name = guard.test.partition("::")
    assert name.partition("[")[0] in _functions(file)


def test_no_two_guards_have_one_name() -> None:
    assert [name for name, times in Counter(guard.name for guard in ALL).items() if times > 1] == []
