"""Options: what fits an annotation, and what is said of what does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest
import yaml

from sslfast.errors import UserError
from sslfast.options import check_types, described, fits, number_hint


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [0, -3], [1.0, True, "1", None]),
        (float, [0.5, 1], [True, "0.5", None]),
        (bool, [True], [1, "true", None]),
        (str, ["a", ""], [1, None, ["a"]]),
        (int | None, [3, None], [0.5, "x"]),
        (Literal["a", "b"], ["a"], ["c", None]),
        (Sequence[float], [[1, 0.5], (), range(3)], ["ab", {"a": 1}, 1, None, [True], ["1"]]),
        (list[float | None] | None, [[1.5, None], None], [[None, "x"], 1.5]),
        (int | Sequence[int], [4, [0, 90]], ["4", [0.5]]),
        (Mapping[str, Any], [{}, {"a": [1]}], [[1], "a", None, {1: 2}]),
        (dict[str, dict[str, Any]], [{"a": {}}], [{"a": 1}, ["a"]]),
        (Any, [1, None, [object()]], []),
        (bytes, [1, None, b"a"], []),
    ],
)
def test_fits(hint: Any, good: list[Any], bad: list[Any]):
    assert [value for value in good if not fits(value, hint)] == []
    assert [value for value in bad if fits(value, hint)] == []


def test_described():
    assert described(int | None) == "a whole number"
    assert described(float) == "a number"
    assert described(Sequence[float | None] | None) == "a list of numbers or nulls"
    assert described(dict[str, Any]) == "a mapping of names to values"
    assert described(dict[str, dict[str, Any]]) == "a mapping of names to mappings of names to values"
    assert described(list[UserError]) == "a list of mappings"
    assert described(int | Sequence[float]) == "a whole number or a list of numbers"
    assert described(Sequence[Sequence[int]] | None) == "a list of lists of whole numbers"
    assert described(Literal["linear", "linear_conv"]) == "'linear' or 'linear_conv'"


@pytest.mark.parametrize(("text", "number"), [("1e-3", 0.001), ("1e-5", 1e-5), ("25e-8", 2.5e-7), ("3e2", 300)])
def test_the_hint_is_a_number_to_yaml(text: str, number: float):
    assert yaml.safe_load(text) == text
    written = number_hint(text).rpartition(" ")[2]
    assert yaml.safe_load(written) == number


def test_what_is_no_number_gets_no_hint():
    assert [number_hint(value) for value in ("x", "", 3, None, [1])] == [""] * 5


def test_check_types_names_option_and_owner():
    def function(rate: float = 0.1, *, name: str = "") -> None: ...

    check_types(function, {"rate": 1, "name": "a"}, "it")
    with pytest.raises(UserError, match=r"option rate='1e-3' of it must be a number; .* write 0\.001$"):
        check_types(function, {"rate": "1e-3"}, "it")


def test_annotations_that_cannot_be_read_are_not_checked():
    def function(rate: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    class Callable:
        def __call__(self, rate: float) -> None: ...

    check_types(function, {"rate": "x"}, "it")
    check_types(Callable(), {"rate": "x"}, "it")
