"""How a listing is filtered, ordered, paged and cut to fields.

This follows what the real server does, its oddities included: a date that it cannot read is no filter at all,
a page is never longer than 500, and the position of a scroll is a number of rows.
"""

import re
import uuid
from operator import eq, ge, gt, le, lt

from errors import ApiError, optional
from store import parse_date

MOST_ROWS = 500
_COMPARE = {"<=": le, "<": lt, ">=": ge, ">": gt, "": eq}


class Options:
    """Which fields of a kind of record can be asked for, and how."""

    def __init__(self, fields, lists, dates, patterns=("name", "comment"), equal=()):
        self.fields = frozenset(fields)
        self.lists = lists
        self.dates = dates
        self.patterns = patterns
        self.equal = equal


class Listing:
    """Answers one listing after another. It remembers the positions of scrolls."""

    def __init__(self, options):
        self.options = options
        self.positions = {}

    def rows(self, records, body, faults):
        """The rows of an answer, and the scroll id for the next call, if this one is scrolled."""
        dropped = faults["drop_filter"].get("fields", ["status_changed"]) if "drop_filter" in faults else []
        tests = self._tests({key: value for key, value in body.items() if key not in dropped})
        rows = [record for record in records if all(test(record) for test in tests)]
        rows = _ordered(rows, body.get("order_by"))
        start, size, scroll = self._window(body)
        if "clamp" in faults and size > faults["clamp"]["rows"]:
            start = start // size * faults["clamp"]["rows"]
            size = faults["clamp"]["rows"]
        if "repeat_page" in faults:
            start = 0
        if "endless_scroll" in faults and rows:
            start %= len(rows)
        page = rows[start : start + size]
        if scroll:
            self.positions[scroll] = start + len(page)
        return page, scroll

    def _window(self, body):
        if "scroll_id" in body:
            size = body.get("size")
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ApiError(400, 12, "a scroll needs an integer size", field="size")
            scroll = body["scroll_id"] or uuid.uuid4().hex
            return self.positions.get(scroll, 0), size, scroll
        page = optional(body, "page", int, 0)
        size = optional(body, "page_size", int, MOST_ROWS)
        if page < 0:
            raise ApiError(400, 12, "page must be >=0", field="page")
        if size < 1:
            raise ApiError(400, 12, "page_size must be >0", field="page_size")
        size = min(size, MOST_ROWS)
        return page * size, size, None

    def _tests(self, body):
        """One function for each filter of a request. What is no filter is ignored."""
        tests = []
        for name, value in body.items():
            if value is None:
                continue
            if name in self.options.patterns and value:
                tests.append(_pattern(name, value))
            elif _matches(name, self.options.lists):
                tests.append(_list(name, value))
            elif name in self.options.equal:
                tests.append(lambda record, name=name, value=value: record.get(name) == value)
            elif name in self.options.dates:
                tests.extend(_dates(name, value))
            elif name in ("_any_", "_all_"):
                tests.append(_many(name, value))
        return tests

    def cut(self, rows, body):
        """The rows with the fields that were asked for. A field that no record has is an error."""
        asked = body.get("only_fields") or []
        asked = [asked] if isinstance(asked, str) else asked
        unknown = [name for name in asked if name.lstrip("-").split(".")[0] not in self.options.fields]
        if unknown:
            raise ApiError(400, 14, fields=unknown)
        wanted = [name for name in asked if not name.startswith("-")]
        if not wanted:
            return rows
        return [_cut(row, [name.split(".") for name in wanted]) for row in rows]


def _matches(name, patterns):
    return any(name == p or (p.endswith("*") and name.startswith(p[:-1])) for p in patterns)


def values_at(record, path):
    """All values at a path with dots. A list on the way stands for each of its items."""
    if "." not in path:
        value = record.get(path)
        return value if isinstance(value, list) else [] if value is None else [value]
    found = [record]
    for part in path.split("."):
        below = []
        for value in found:
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict) and part in item:
                    below.append(item[part])
        found = below
    flat = []
    for value in found:
        flat.extend(value if isinstance(value, list) else [value])
    return flat


def _pattern(name, pattern):
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError):
        raise ApiError(400, 21, regex=pattern) from None
    return lambda record: bool(compiled.search(record.get(name) or ""))


def _many(name, value):
    """`_any_` or `_all_`: a pattern for several fields."""
    try:
        compiled, fields = re.compile(value["pattern"], re.IGNORECASE), value["fields"]
    except (re.error, TypeError, KeyError):
        raise ApiError(400, 16, "failed parsing query field", field=name) from None
    ways = any if name == "_any_" else all
    return lambda r: ways(any(compiled.search(str(v)) for v in values_at(r, field)) for field in fields)


def _list(name, wanted):
    """A list filter: values after `__$all`, `__$any`, `__$not` or `-`, or null for none."""
    is_all, first, empty, negative = False, None, False, False
    parts = {}
    for value in wanted if isinstance(wanted, list) else [wanted]:
        if value is None:
            first = is_all if first is None else first
            empty = True
            continue
        if not isinstance(value, str):
            raise ApiError(400, 16, "invalid value type, string expected", field=name, value=value)
        if value in ("__$not", "__$nop"):
            negative = value == "__$not"
            continue
        if value in ("__$all", "__$and", "__$any", "__$or"):
            is_all = value in ("__$all", "__$and")
            first = is_all if first is None else first
            continue
        if value.startswith("__$"):
            raise ApiError(400, 16, "Unsupported operator", field=name, operator=value)
        if value.startswith("-"):
            value, negative = value[1:], True
        first = is_all if first is None else first
        parts.setdefault((is_all, not negative), set()).add(value)
        negative = False
    if negative:
        raise ApiError(400, 16, "Value is expected after", operator="__$not")

    def holds(have, key, values):
        of_all, include = key
        found = values <= have if of_all else bool(values & have)
        return found if include else not found

    def test(record):
        have = {value for value in values_at(record, name) if value is not None}
        if empty and not have:
            return True
        results = [holds(have, key, values) for key, values in parts.items()]
        if not results:
            return not empty
        return all(results) if first else any(results)

    return test


def _dates(name, value):
    """The tests of a date filter. A bound that the server cannot read is left out in silence."""
    bounds = value if isinstance(value, list) else [value]
    if len(bounds) == 2 and not any(str(bound)[:1] in "<>" for bound in bounds if bound):
        bounds = [sign + bound for sign, bound in zip((">=", "<="), bounds) if bound]
    kept = {}
    for bound in bounds:
        if not isinstance(bound, str):
            raise ApiError(400, 16, "failed parsing query field", field=name)
        sign, text = re.fullmatch(r"(>=|>|<=|<)?(.*)", bound, re.DOTALL).groups()
        when = parse_date(text)
        if when:
            # A second bound of the same kind takes the place of the first.
            kept[sign or ""] = when

    def test(record, compare, when):
        have = parse_date(record.get(name))
        return have is not None and compare(have, when)

    return [lambda r, c=_COMPARE[sign], w=when: test(r, c, w) for sign, when in kept.items()]


def _ordered(rows, order):
    """Rows in a total order: the id is the last key. A row without a value comes last."""
    order = order if isinstance(order, list) else [order] if order else []
    if order and not {"id", "-id"} & set(order):
        order = [*order, "id"]
    for key in reversed(order):
        name, is_down = key.lstrip("-"), key.startswith("-")
        have, lack = [], []
        for row in rows:
            values = values_at(row, name)
            if values:
                have.append((_comparable(values[0]), row))
            else:
                lack.append(row)
        have.sort(key=lambda pair: pair[0], reverse=is_down)
        rows = [row for _, row in have] + lack
    return rows


def _comparable(value):
    is_number = isinstance(value, (int, float))
    return (not is_number, value if is_number else str(value))


def _cut(value, paths):
    """The parts of a record that lie on one of the paths."""
    if isinstance(value, list):
        return [_cut(item, paths) for item in value]
    if not isinstance(value, dict):
        return value
    below = {}
    for first, *rest in paths:
        below.setdefault(first, []).append(rest)
    return {
        name: value[name] if [] in rests else _cut(value[name], rests)
        for name, rests in below.items()
        if name in value
    }
