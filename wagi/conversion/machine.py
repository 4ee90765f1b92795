"""A pickle reader that has no means to run anything.

Python's own unpickler imports and calls whatever a file names. This one is a small machine over the same
opcodes in which only listed names exist, and a listed name is one of our functions, never the object of that
name: source code inside a file is a string, a class is a stub, an array is bytes whose length is checked.
"""

import pickletools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

MAX_NESTING = 64
MAX_OPERATIONS = 5_000_000


class Refused(Exception):
    """Half a sentence: the thing in the file that is not accepted."""


class _Mark:
    pass


class Known(NamedTuple):
    """A listed global: what stands on the stack instead of the object that the file names."""

    name: str
    make: Callable[..., object]


# Containers that know how deep they are, so that a file cannot build what later code would recurse into.
class _Tuple(tuple):
    depth = 1


class _List(list):
    depth = 1


class PlainDict(dict):
    depth = 1


class Stub:
    """An object of a class of the file's: its arguments are dropped, its state is kept as data."""

    def __init__(self) -> None:
        self.state: Any = None

    def restore(self, state: Any) -> None:
        self.state = state


def _deepen(container: Any, items: Any) -> None:
    container.depth = max([container.depth, *(1 + getattr(item, "depth", 0) for item in items)])
    if container.depth > MAX_NESTING:
        raise Refused(f"is nested more than {MAX_NESTING} deep")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip


class Machine:
    """Reads one pickle from `stream`. `allowed` maps "module.name" to our function for it.

    `foreign` maps modules of files that are known and not read to what is said of them.
    Raises Refused for every other global, for opcodes that weights never need, for deep nesting, and for
    streams that are damaged or claim more than they hold.
    """

    def __init__(
        self, allowed: Mapping[str, Callable[..., object]], foreign: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.allowed, self.foreign = allowed, foreign
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self, stream: Any) -> Any:
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
                if count > MAX_OPERATIONS:
                    raise Refused("has too many operations for a weight file")
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._step(opcode.name, argument)
        except (IndexError, KeyError, TypeError):
            raise Refused("is a damaged pickle (operations without operands)") from None
        except (ValueError, OverflowError, MemoryError, UnicodeError) as error:
            raise Refused(f"is a damaged or truncated pickle ({str(error)[:100]})") from None
        raise Refused("is a truncated pickle")

    def _step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in ("PROTO", "FRAME"):
            pass
        elif (method := getattr(self, f"_do_{name.lower()}", None)) is not None:
            method(argument)
        else:
            raise Refused(f"uses the pickle operation {name}, which weight files do not need")

    # -------------------------------------------------------------------------------- stack and memo

    def _to_mark(self) -> list[Any]:
        items: list[Any] = []
        while not isinstance(top := self.stack.pop(), _Mark):
            items.append(top)
        return items[::-1]

    def _do_mark(self, _: Any) -> None:
        self.stack.append(_Mark())

    def _do_pop(self, _: Any) -> None:
        self.stack.pop()

    def _do_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _do_binput(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    _do_long_binput = _do_binput

    def _do_binget(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _do_long_binget = _do_binget

    # ------------------------------------------------------------------------------------ containers

    def _push_tuple(self, items: list[Any]) -> None:
        made = _Tuple(items)
        _deepen(made, made)
        self.stack.append(made)

    def _do_tuple(self, _: Any) -> None:
        self._push_tuple(self._to_mark())

    def _pop_tuple(self, count: int) -> None:
        self._push_tuple([self.stack.pop() for _ in range(count)][::-1])

    def _do_empty_tuple(self, _: Any) -> None:
        self._pop_tuple(0)

    def _do_tuple1(self, _: Any) -> None:
        self._pop_tuple(1)

    def _do_tuple2(self, _: Any) -> None:
        self._pop_tuple(2)

    def _do_tuple3(self, _: Any) -> None:
        self._pop_tuple(3)

    def _do_empty_list(self, _: Any) -> None:
        self.stack.append(_List())

    def _do_empty_dict(self, _: Any) -> None:
        self.stack.append(PlainDict())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(target := self.stack[-1], _List):
            raise Refused("appends to something that is not a list")
        _deepen(target, items)
        target.extend(items)

    def _do_append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _do_appends(self, _: Any) -> None:
        self._extend(self._to_mark())

    def _update(self, items: list[Any]) -> None:
        if not isinstance(target := self.stack[-1], PlainDict) or len(items) % 2:
            raise Refused("sets items of something that is not a dict")
        keys, values = items[::2], items[1::2]
        # Plain keys only: the hash of a nested tuple would recurse in C.
        if not all(isinstance(key, (str, int, float, bytes, type(None))) for key in keys):
            raise Refused("has a dict whose keys are not plain")
        _deepen(target, values)
        target.update(zip(keys, values, strict=True))

    def _do_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _do_setitems(self, _: Any) -> None:
        self._update(self._to_mark())

    # --------------------------------------------------------------------------------------- objects

    def _find(self, module: Any, name: Any) -> None:
        full = f"{module}.{name}"
        if module in self.foreign:
            raise Refused(self.foreign[module])
        if full not in self.allowed:
            raise Refused(f"asks for {full[:80]!r}, which weight files do not need; nothing was executed")
        self.stack.append(Known(full, self.allowed[full]))

    def _do_global(self, argument: str) -> None:
        self._find(*argument.split(" ", 1))

    def _do_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._find(module, name)

    def _do_reduce(self, _: Any) -> None:
        arguments, known = self.stack.pop(), self.stack.pop()
        if not isinstance(known, Known) or not isinstance(arguments, tuple):
            raise Refused("calls something that is not a listed name")
        self.stack.append(known.make(*arguments))

    _do_newobj = _do_reduce

    def _do_build(self, _: Any) -> None:
        state = self.stack.pop()
        if not hasattr(target := self.stack[-1], "restore"):
            raise Refused(f"sets the state of a {type(target).__name__.strip('_').lower()}")
        target.restore(state)

    def _do_binpersid(self, _: Any) -> None:
        self.stack[-1] = Stub()  # a storage of a PyTorch file
