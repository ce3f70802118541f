"""A small assembler for classic BPF, the language in which the kernel takes a seccomp filter.

A piece of code is a list of instructions whose jumps say how many to skip, so pieces are joined by adding lists: there
are no labels to resolve. Belongs here: instructions and how decisions are made of them. Does not: what is allowed.
Source: seccomp(2), linux/filter.h, linux/seccomp.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

Code = list[tuple[int, int, int, int]]  # struct sock_filter: operation, skip if true, skip if false, operand

LOAD: Final = 0x20  # a word of struct seccomp_data, at an offset
AND: Final = 0x54
JUMP: Final = 0x05  # its operand has 32 bits; what the conditional ones skip has 8
JUMP_EQUAL: Final = 0x15
JUMP_AT_LEAST: Final = 0x35
JUMP_ANY_BIT: Final = 0x45
RETURN: Final = 0x06

NUMBER: Final = 0  # offsets in struct seccomp_data
ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16

ALLOW: Final = 0x7FFF0000
KILL_PROCESS: Final = 0x80000000

MOST_INSTRUCTIONS: Final = 4096  # BPF_MAXINSNS
_FARTHEST: Final = 255


def fail_with(error: int) -> int:
    """The verdict that the call fails with this errno."""
    return 0x00050000 | error


class Is(NamedTuple):
    """An argument, of which the masked bits are one of the values.

    Only the low 32 bits are looked at, as the kernel does: the arguments with rules are ints, and a rule that compared
    64 would be passed by setting a high bit.
    """

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF

    def or_skip(self, skip: int) -> Code:
        code = _load(self.argument)
        if self.mask != 0xFFFFFFFF:
            code.append((AND, 0, 0, self.mask))
        *others, last = self.values
        for left, value in zip(range(len(others), 0, -1), others, strict=True):
            code.append((JUMP_EQUAL, left, 0, value))
        code.append((JUMP_EQUAL, 0, skip, last))
        return code


class Has(NamedTuple):
    """An argument with any of these bits."""

    argument: int
    bits: int

    def or_skip(self, skip: int) -> Code:
        return [*_load(self.argument), (JUMP_ANY_BIT, 0, skip, self.bits)]


class When(NamedTuple):
    """A verdict, and the conditions that must all hold for it."""

    verdict: int
    conditions: tuple[Is | Has, ...]


def decide(rules: Sequence[When], otherwise: int) -> Code:
    """The first rule whose conditions hold gives the verdict."""
    code: Code = []
    for rule in rules:
        piece: Code = [(RETURN, 0, 0, rule.verdict)]
        for condition in reversed(rule.conditions):
            piece = condition.or_skip(len(piece)) + piece
        code += piece
    return [*code, (RETURN, 0, 0, otherwise)]


def search(ranges: Sequence[tuple[int, Code]]) -> Code:
    """The code of the range that holds the loaded number. `ranges`: each one's first number and code, ascending."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = search(ranges[:middle]), search(ranges[middle:])
    pivot = ranges[middle][0]
    if len(below) <= _FARTHEST:
        return [(JUMP_AT_LEAST, len(below), 0, pivot), *below, *above]
    return [(JUMP_AT_LEAST, 0, 1, pivot), (JUMP, 0, 0, len(below)), *below, *above]


def pack(code: Code) -> bytes:
    """An array of struct sock_filter."""
    assert len(code) <= MOST_INSTRUCTIONS, f"{len(code)} instructions are more than the kernel takes"
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _load(argument: int) -> Code:
    return [(LOAD, 0, 0, _ARGUMENTS + 8 * argument)]  # little-endian: the low half comes first
