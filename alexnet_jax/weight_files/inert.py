"""Reads a pickle as data: arrays, dicts, lists, tuples, numbers, texts; anything else becomes an inert `Record`.

Python's own unpickler imports and calls what a file names. Here nothing is imported and nothing is called. This is an
interpreter of its own for the stack language of pickles (documented in `pickletools`), in which a class is only its
name, and a call becomes a record of that name and the arguments. Arrays of NumPy 1 and 2, pickled by Python 2 or 3, are
built from type, shape and bytes by the code below, without copying the bytes. The memory that is used is limited by the
file's size: copies, which a few instructions could repeat many times, are counted (`_Machine.spend`). Keys of dicts may
not be tuples of tuples, as hashing these can take unlimited time.

A checkpoint of cuda-convnet is a pickle of protocol 2, written by Python 2. It also has the options of the command line
that wrote it, as instances of classes.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from alexnet_jax.weight_files.tensors import Damaged, Unsupported

_SHORT = 1 << 16  # bytes; longer strings are views on the file
_COPIES = 64 << 20  # bytes that may be copied beyond as many as the file has
_MARK = object()
_ARRAY = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_SCALAR = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_BUFFER = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")
_BYTES = ("__builtin__.bytearray", "builtins.bytearray", "__builtin__.bytes", "builtins.bytes")
# What a memoryview's bytes may stand for: numbers and booleans of a fixed size.
_KINDS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


@dataclasses.dataclass(eq=False)
class Record:
    """An object of an unknown class: the class's name, the arguments that made it, and its state. It does nothing."""

    name: str
    arguments: tuple = ()
    state: Any = None
    items: dict = dataclasses.field(default_factory=dict)  # set by key, as of a subclass of dict

    def __repr__(self) -> str:
        return f"Record({self.name})"


@dataclasses.dataclass(frozen=True)
class _Global:
    name: str


@dataclasses.dataclass(eq=False)
class _Array:
    """An array before its state is known; `value` afterwards."""

    value: np.ndarray | None = None


@dataclasses.dataclass(eq=False)
class _DType:
    kind: Any
    order: str = "="


def load(data: bytes | memoryview) -> Any:
    """The object in a pickle of any protocol up to 5.

    Python 2's strings become texts where they are keys of dicts, else bytes; long ones are views on `data`.

    Raises:
      Damaged: it is not a complete pickle. Unsupported: it has an object that cannot be built here.
    """
    try:
        return _settled(_Machine(memoryview(data)).run())
    except Damaged:
        raise
    except (IndexError, KeyError, ValueError, TypeError, struct.error, OverflowError, AttributeError, RecursionError,
            MemoryError) as error:
        raise Damaged(f"not a complete pickle ({type(error).__name__})") from error


def text(value: Any) -> str:
    """A string of either Python as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, memoryview)) and len(value) <= _SHORT:
        return bytes(value).decode("utf-8", "replace")
    raise Damaged("a name is not a text")


class _Machine:
    def __init__(self, data: memoryview):
        self.data, self.at = data, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.left = len(data) + _COPIES

    def spend(self, count: int) -> None:
        """To be called before `count` bytes are copied. Raises Damaged after more copies than a checkpoint needs."""
        self.left -= count
        if self.left < 0:
            raise Damaged("it copies its own content over and over, as no checkpoint does")

    def run(self) -> Any:
        while True:
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                return self.pop()
            action = _ACTIONS.get(code)
            if action is None:
                raise Damaged(f"instruction {code} at byte {self.at - 1:,}, which a pickle of data does not have")
            action(self)

    # The file.

    def take(self, count: int) -> memoryview:
        if count < 0 or count > len(self.data) - self.at:
            raise Damaged(f"cut short: {count:,} bytes are needed at byte {self.at:,} of {len(self.data):,}")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        parts: list[bytes] = []
        while True:
            part = bytes(self.data[self.at:self.at + 4096])
            end = part.find(b"\n")
            parts.append(part if end < 0 else part[:end])
            self.at += len(part) if end < 0 else end + 1
            if end >= 0:
                return b"".join(parts)
            if not part:
                raise Damaged("cut short within a line")

    def string(self, count: int) -> bytes | memoryview:
        found = self.take(count)
        return bytes(found) if count < _SHORT else found

    # The stack.

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if self.marks and self.marks[-1] == len(self.stack):
            raise Damaged("a mark where a value should be")
        return self.stack.pop()

    def top(self) -> Any:
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def remember(self, place: int) -> None:
        self.memo[place] = self.top()

    # What would run code in Python.

    def call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, (_Global, Record)) or not isinstance(arguments, tuple):
            raise Damaged("something that is not a class is called")
        name = function.name if isinstance(function, _Global) else "what an unknown class gives"
        if name in _ARRAY:
            self.push(_Array())
        elif name == "numpy.dtype":
            self.push(_DType(arguments[0]))
        elif name in _SCALAR:
            dtype, raw = arguments
            self.push(self.array(dtype, (), raw, False)[()])
        elif name == "_codecs.encode" and len(arguments) == 2 and isinstance(arguments[0], str):
            self.spend(len(arguments[0]))
            self.push(arguments[0].encode("latin-1"))  # Python 3's way to write bytes in protocol 2
        elif name in ("collections.OrderedDict", "ordereddict.OrderedDict"):
            pairs = arguments[0] if arguments else []
            self.spend(16 * len(pairs))
            self.push({self.key(k): v for k, v in pairs})
        elif name in ("__builtin__.set", "builtins.set", "__builtin__.frozenset", "builtins.frozenset"):
            self.spend(8 * len(arguments[0]) if arguments else 0)
            self.push(list(arguments[0]) if arguments else [])
        elif name in _BUFFER:
            raw, dtype, shape, order = arguments
            self.push(self.array(dtype, shape, raw, order == "F"))
        elif name in _BYTES:
            self.push(arguments[0] if arguments else b"")
        else:
            # Of copy_reg._reconstructor(class, base, state) the class is what counts.
            if name in ("copy_reg._reconstructor", "copyreg._reconstructor") and isinstance(arguments[0], _Global):
                name = arguments[0].name
            self.push(Record(name, arguments))

    def build(self) -> None:
        state, of = self.pop(), self.top()
        if isinstance(of, _Array):
            _, shape, dtype, fortran, raw = state
            of.value = self.array(dtype, shape, raw, bool(fortran))
        elif isinstance(of, _DType):
            of.order = text(state[1])
        elif isinstance(of, Record):
            of.state = state
        elif isinstance(of, dict) and isinstance(state, dict):
            pass  # attributes of an OrderedDict
        else:
            raise Damaged("a state for an object that cannot have one")

    def set_items(self, pairs: list[Any]) -> None:
        of = self.top()
        of = of.items if isinstance(of, Record) else of
        if not isinstance(of, dict):
            raise Damaged("items for something that is not a dict")
        of.update(self.pairs(pairs))

    def append(self, values: list[Any]) -> None:
        of = self.top()
        if isinstance(of, Record):
            of.items.update(enumerate(values, len(of.items)))
        elif isinstance(of, list):
            of.extend(values)
        else:
            raise Damaged("elements for something that is not a list")

    def pairs(self, values: list[Any]) -> dict[Any, Any]:
        return {self.key(k): v for k, v in zip(values[::2], values[1::2], strict=True)}

    def key(self, value: Any) -> Any:
        """What stands for a dict's key: a text for a string of either Python."""
        if isinstance(value, tuple) and any(isinstance(part, tuple) for part in value):
            raise Damaged("a key of tuples within tuples")
        if isinstance(value, tuple):
            self.spend(8 * len(value))
        elif isinstance(value, (bytes, memoryview)):
            self.spend(len(value))
            return bytes(value).decode("latin-1")
        return value

    def array(self, dtype: Any, shape: Any, raw: Any, fortran: bool) -> np.ndarray:
        if isinstance(raw, str):
            self.spend(len(raw))
        return _build(dtype, shape, raw, fortran)

    def name(self, module: Any, name: Any) -> _Global:
        """The class that a file names."""
        parts = text(module), text(name)
        self.spend(sum(map(len, parts)))
        return _Global(".".join(parts))


def _build(dtype: Any, shape: Any, raw: Any, fortran: bool) -> np.ndarray:
    """The array of these bytes, as a view. Its size is checked before anything is made."""
    if isinstance(dtype, _Global):  # a class such as numpy.float32
        raise Unsupported("an array of an unknown type")
    kind = text(dtype.kind).lstrip("<>=|")
    if kind not in _KINDS:
        raise Unsupported(f"an array of type {kind[:20]!r}, and only plain numbers are read")
    if (not isinstance(shape, tuple) or len(shape) > 32
            or not all(isinstance(n, int) and 0 <= n < 1 << 62 for n in shape)):
        raise Damaged("an array without a shape")
    found = np.dtype((">" if dtype.order == ">" else "<") + kind)
    if isinstance(raw, str):
        raw = raw.encode("latin-1")
    if not isinstance(raw, (bytes, memoryview)) or len(raw) != math.prod(shape) * found.itemsize:
        raise Damaged(f"an array of shape {list(shape)} with more or fewer bytes than that")
    return np.frombuffer(raw, found).reshape(shape, order="F" if fortran else "C")


def _settled(value: Any) -> Any:
    """The object with its arrays filled in. Objects may contain themselves (`inputLayers` of cuda-convnet)."""
    done: dict[int, Any] = {}
    made: list[Any] = []  # kept, so that no two of them share an identity

    def of(x: Any) -> Any:
        if isinstance(x, _Array):
            if x.value is None:
                raise Damaged("an array without its content")
            return x.value
        if isinstance(x, _Global):
            return Record(x.name)
        if id(x) in done:
            return done[id(x)]
        if isinstance(x, (list, dict, Record)):
            done[id(x)] = x
            made.append(x)
            waiting.append(x)
        elif isinstance(x, tuple):
            new = tuple(of(each) for each in x)
            done[id(x)] = new
            made.append(x)
            return new
        return x

    waiting: list[Any] = []
    result = of(value)
    while waiting:
        x = waiting.pop()
        if isinstance(x, list):
            x[:] = [of(each) for each in x]
        elif isinstance(x, dict):
            for key in x:
                x[key] = of(x[key])
        else:
            x.arguments, x.state = of(x.arguments), of(x.state)
            for key in x.items:
                x.items[key] = of(x.items[key])
    return result


def _instance(m: _Machine) -> None:  # INST: class named in the file, arguments since the mark
    name = m.name(m.line(), m.line()).name
    m.push(Record(name, tuple(m.since_mark())))


def _object(m: _Machine) -> None:  # OBJ: class and arguments since the mark
    cls, *arguments = m.since_mark()
    m.push(Record(cls.name, tuple(arguments)))


def _new(m: _Machine) -> None:  # NEWOBJ
    arguments, cls = m.pop(), m.pop()
    m.call(cls, arguments)


def _new_with_names(m: _Machine) -> None:  # NEWOBJ_EX
    m.pop()
    _new(m)


def _reduce(m: _Machine) -> None:
    arguments, function = m.pop(), m.pop()
    m.call(function, arguments)


def _global(m: _Machine) -> None:
    m.push(m.name(m.line(), m.line()))


def _stack_global(m: _Machine) -> None:
    name, module = m.pop(), m.pop()
    m.push(m.name(module, name))


def _quoted(m: _Machine) -> None:  # STRING of protocol 0, as Python 2's repr wrote it
    line = m.line().strip()
    if len(line) < 2 or line[:1] not in b"'\"" or line[-1:] != line[:1]:
        raise Damaged("a string without its quotes")
    # Escapes as in a literal; what they stand for are bytes.
    m.push(line[1:-1].decode("latin-1").encode("ascii", "backslashreplace").decode("unicode_escape").encode("latin-1"))


def _integer(m: _Machine) -> None:  # INT; 00 and 01 are booleans
    line = m.line().strip()
    m.push({b"00": False, b"01": True}.get(line) if line in (b"00", b"01") else int(line))


def _mark(m: _Machine) -> None:
    m.marks.append(len(m.stack))


def _pop(m: _Machine) -> None:
    if m.marks and m.marks[-1] == len(m.stack):
        m.marks.pop()
    else:
        m.stack.pop()


def _tuple(count: int) -> Callable[[_Machine], None]:
    def make(m: _Machine) -> None:
        found = [m.pop() for _ in range(count)]
        m.push(tuple(reversed(found)))

    return make


def _set_item(m: _Machine) -> None:
    value, key = m.pop(), m.pop()
    m.set_items([key, value])


def _append(m: _Machine) -> None:
    value = m.pop()
    m.append([value])


def _long(form: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(int.from_bytes(m.take(m.number(form)), "little", signed=True))


def _unicode(form: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(bytes(m.take(m.number(form))).decode("utf-8", "surrogatepass"))


_ACTIONS: dict[int, Callable[[_Machine], Any]] = {ord(code): action for code, action in {
    "(": _mark, "0": _pop, "1": lambda m: m.since_mark(), "2": lambda m: m.push(m.top()),
    "N": lambda m: m.push(None), "\x88": lambda m: m.push(True), "\x89": lambda m: m.push(False),
    "I": _integer, "F": lambda m: m.push(float(m.line())), "L": lambda m: m.push(int(m.line().rstrip(b"L\r "))),
    "J": lambda m: m.push(m.number("<i")), "K": lambda m: m.push(m.number("<B")),
    "M": lambda m: m.push(m.number("<H")), "G": lambda m: m.push(m.number(">d")),
    "\x8a": _long("<B"), "\x8b": _long("<i"),
    "S": _quoted, "T": lambda m: m.push(m.string(m.number("<i"))), "U": lambda m: m.push(m.string(m.number("<B"))),
    "B": lambda m: m.push(m.string(m.number("<I"))), "C": lambda m: m.push(m.string(m.number("<B"))),
    "\x8e": lambda m: m.push(m.string(m.number("<Q"))), "\x96": lambda m: m.push(m.string(m.number("<Q"))),
    "V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    "X": _unicode("<I"), "\x8c": _unicode("<B"), "\x8d": _unicode("<Q"),
    ")": lambda m: m.push(()), "t": lambda m: m.push(tuple(m.since_mark())),
    "\x85": _tuple(1), "\x86": _tuple(2), "\x87": _tuple(3),
    "]": lambda m: m.push([]), "l": lambda m: m.push(m.since_mark()), "a": _append,
    "e": lambda m: m.append(m.since_mark()),
    "}": lambda m: m.push({}), "d": lambda m: m.push(m.pairs(m.since_mark())), "s": _set_item,
    "u": lambda m: m.set_items(m.since_mark()),
    "\x8f": lambda m: m.push([]), "\x90": lambda m: m.append(m.since_mark()), "\x91": lambda m: m.push(m.since_mark()),
    "p": lambda m: m.remember(int(m.line())), "q": lambda m: m.remember(m.number("<B")),
    "r": lambda m: m.remember(m.number("<I")), "\x94": lambda m: m.remember(len(m.memo)),
    "g": lambda m: m.push(m.memo[int(m.line())]), "h": lambda m: m.push(m.memo[m.number("<B")]),
    "j": lambda m: m.push(m.memo[m.number("<I")]),
    "c": _global, "\x93": _stack_global, "i": _instance, "o": _object, "R": _reduce, "b": lambda m: m.build(),
    "\x81": _new, "\x92": _new_with_names,
    "\x80": lambda m: m.take(1), "\x95": lambda m: m.take(8),  # PROTO and FRAME: not needed
}.items()}
