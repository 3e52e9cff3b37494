"""What a sweep file says of one name: a domain or a computed value, or a list of such cases that exclude each other."""

from collections.abc import Mapping

from search_spaces.conditions import Parameter
from search_spaces.knob import Knob
from search_spaces.linked import Linked, Spread
from search_spaces.linked_syntax import is_computed, read_computed
from search_spaces.syntax import Key, Locator, is_list, read_domain, read_when, refuse

__all__ = ["Item", "read_cases"]

Item = Parameter | Linked | Spread


def read_cases(name: str, spec: object, key: Key, locate: Locator, knob: Knob | None) -> list[Item]:
    """Reads what a space says of one knob, or of one config path or variable if `knob` is None.

    Args:
        name: Name of the knob, the config path or the variable.
        spec: One domain (a mapping) or a list of cases.
        key: Where `spec` stands.
        locate: Names a key in messages.
        knob: Row of the knob, whose domain bounds this one.
    """
    if isinstance(spec, Mapping):
        return [_read_case(name, spec, key, locate, knob, is_case=False)]
    if not is_list(spec) or not spec:
        raise refuse(
            locate,
            key,
            f"expected {{choice: [...]}}, {{float: [low, high]}} or {{int: [low, high]}}, but got {spec!r}",
            f"Put a single value under `fixed`, or write `{name}: {{choice: [{spec}]}}`",
        )
    return [_read_case(name, case, (*key, index), locate, knob, is_case=True) for index, case in enumerate(spec)]


def _read_case(name: str, spec: object, key: Key, locate: Locator, knob: Knob | None, *, is_case: bool) -> Item:
    if not isinstance(spec, Mapping):
        raise refuse(locate, key, f"expected a case {{when: ..., float: ...}}, but got {spec!r}", "Write a mapping")
    if is_case and "when" not in spec:
        raise refuse(
            locate, key, "expected every case of a list to say `when` it holds, but got none", "Add when: {...}"
        )
    when = read_when(spec["when"], (*key, "when"), locate) if "when" in spec else ()
    suffix = ",".join(f"{parent}={'|'.join(str(value) for value in values)}" for parent, values in when)
    item = f"{name}[{suffix}]" if is_case else name
    if is_computed(spec):
        return read_computed(item, name, spec, when, key, locate, knob)
    return Parameter(id=item, knob=name, domain=read_domain(spec, key, locate, knob), when=when)
