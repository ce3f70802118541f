"""Attacks on the supervisor over the channel, descriptor 3, by which it is told what the handler has answered."""

from __future__ import annotations

import time

import pytest

from eventfn.workers.child import frames
from tests.sandbox.attacks.attack import Attack
from tests.sandbox.attacks.stage import Stage

NOT_A_RESPONSE = "Runtime.ExitError: Runtime sent what is not a response: "


class StartsWith:
    def __init__(self, text: str) -> None:
        self._text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith(self._text)

    def __repr__(self) -> str:
        return f"{self._text}..."

    __hash__ = None  # type: ignore[assignment]  # equal to many


def _says(name: str, said: bytes, expected: object, **settings: object) -> Attack:
    """It writes these bytes and waits for what comes of it."""
    return Attack(name, "processes", f"os.write(3, {said!r})\ntime.sleep(30)", expected, settings=settings)


def _prefix(kind: int, header: int, payload: int, body: int = 0) -> bytes:
    """Of a frame whose lengths may be lies."""
    return frames.PREFIX.pack(kind, 0, 1, 1, 0, header, payload, body)


TOO_LARGE = (
    "Function.ResponseSizeTooLarge: Response payload size exceeded maximum allowed payload size (6291556 bytes)."
)
TIMED_OUT = "Sandbox.Timedout: Task timed out after 0.50 seconds"
MOST = 2**32 - 1
RESULT, ERROR = frames.RESULT, frames.ERROR

ATTACKS = [
    _says("noise", bytes([255]) * 1000, f"{NOT_A_RESPONSE}a header of {MOST} bytes, at most 65536 are allowed"),
    _says(
        "a header of a gigabyte",
        _prefix(RESULT, 1 << 30, 0),
        f"{NOT_A_RESPONSE}a header of {1 << 30} bytes, at most 65536 are allowed",
    ),
    _says("an answer of four gigabytes", _prefix(RESULT, 0, MOST), TOO_LARGE),
    _says("an answer that is too large in two parts", _prefix(RESULT, 0, 4_000_000, 4_000_000), TOO_LARGE),
    _says("half a frame", _prefix(RESULT, 0, 100) + b"half", TIMED_OUT, timeout=0.5),
    _says("half a large frame", _prefix(RESULT, 0, 6_000_000) + b"half" * 10_000, TIMED_OUT, timeout=0.5),
    _says("a byte of a frame", b"\x08", TIMED_OUT, timeout=0.5),
    _says(
        "frames of nothing", bytes(frames.SIZE) * 1000, f"{NOT_A_RESPONSE}a frame of the kind 0, which there is none"
    ),
    _says("a kind that is none", _prefix(255, 0, 0), f"{NOT_A_RESPONSE}a frame of the kind 255, which there is none"),
    _says(
        "a frame of the supervisor's",
        _prefix(frames.INVOKE, 0, 0),
        f"{NOT_A_RESPONSE}a frame of the kind 2, which there is none",
    ),
    _says(
        "a header that is no text",
        frames.join(ERROR, b"\xff\xfe", b"{}", number=1),
        StartsWith(f"{NOT_A_RESPONSE}a header that is none"),
    ),
    _says("a header of line feeds", frames.join(ERROR, b"\n" * 65_536, b"{}", number=1), StartsWith(": \n\n")),
    _says("more memory than there is", frames.join(RESULT, payload=b"1", number=1, amount=MOST), 1),
    _says(
        "an answer with a body that nobody asked for",
        frames.join(RESULT, payload=b"1", body=b"\xff\xfe", number=1),
        f"{NOT_A_RESPONSE}a body that nobody asked for",
    ),
    _says(
        "the answer to another request",
        frames.join(RESULT, number=7),
        f"{NOT_A_RESPONSE}an answer to request 7, which is not in flight",
    ),
    _says(
        "the failure of another request",
        frames.join(ERROR, b"x\ny", number=0),
        f"{NOT_A_RESPONSE}an answer to request 0, which is not in flight",
    ),
    _says("ready again", frames.join(frames.READY), f"{NOT_A_RESPONSE}it is ready twice"),
    _says(
        "a failed start, afterwards",
        frames.join(frames.INIT_ERROR, b"x\ny", b"{}"),
        f"{NOT_A_RESPONSE}it is ready twice",
    ),
    _says("stands, afterwards", frames.join(frames.STANDS), f"{NOT_A_RESPONSE}it is ready twice"),
    _says("no start, afterwards", frames.join(frames.NEVER_STARTED, b"x"), f"{NOT_A_RESPONSE}it is ready twice"),
    _says("two answers", frames.join(RESULT, payload=b"7", number=1) * 2, 7),
    Attack(
        "a flood of answers",
        "processes",
        f"""
        while True:
            os.write(3, {frames.join(RESULT, payload=b"11", number=1)!r} * 4000)
        """,
        11,
    ),
    Attack("closing it", "processes", "os.close(3)\ntime.sleep(30)", NOT_A_RESPONSE + "it closed its channel"),
    Attack(
        "ending it one way",
        "processes",
        "socket.socket(fileno=os.dup(3)).shutdown(socket.SHUT_WR)\ntime.sleep(30)",
        NOT_A_RESPONSE + "it closed its channel",
    ),
    Attack(
        "being another program",
        "processes",
        "os.execv('/bin/sleep', ['sleep', '30'])",
        NOT_A_RESPONSE + "it closed its channel",
    ),
    Attack(
        "answering twice by forking",
        "processes",
        "os.fork()\nreturn 'done'",
        "done",
    ),
    Attack(
        "sending descriptors",
        "descriptors",
        """
        channel = socket.socket(fileno=os.dup(3))
        opened = [os.open('/dev/null', os.O_RDONLY) for _ in range(200)]
        for byte in A_FRAME:
            while attempt(socket.send_fds, channel, [bytes([byte])], opened) != 1:
                time.sleep(0.001)  # too many are under way
        time.sleep(30)
        """.replace("A_FRAME", repr(frames.join(RESULT, payload=b"7" * 40, number=1))),
        int("7" * 40),
    ),
    Attack(
        "holding it open when it ends",
        "processes",
        """
        started, begin = os.pipe()
        if os.fork() == 0:
            os.setsid()
            os.write(begin, b'x')
            time.sleep(2)
            os._exit(0)
        os.read(started, 1)
        os._exit(3)
        """,
        "Runtime.ExitError: Runtime exited with error: exit status 3",
    ),
    Attack(
        "closing its log",
        "processes",
        "os.close(1)\nos.close(2)\nreturn attempt(print, 'nobody hears this', flush=True)",
        "EBADF",
    ),
    Attack(
        "reading what it has logged",
        "processes",
        """
        with contextlib.suppress(OSError):
            pipe = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK)
            fcntl.fcntl(1, 1031, 1 << 20)
        os.set_blocking(1, False)
        return attempt(os.write, 1, b'x' * 4_000_000) > 0
        """,
        True,
    ),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_supervisor_believes_nothing(stage: Stage, attack: Attack) -> None:
    stage.stands_up_to(attack)


def test_a_request_that_is_not_read_holds_up_nobody(stage: Stage) -> None:
    code = """
    def hold():  # the interpreter, so that nothing else of it runs
        over.wait()
        ctypes.PyDLL(None).sleep(100)
    over = threading.Event()
    threading.Thread(target=hold, daemon=True).start()
    threading.Timer(0.05, over.set).start()
    return 'done'
    """
    stage.deploy("deaf", code, timeout=1.0)
    assert stage.invoke("deaf", stage.machine) == "done"
    time.sleep(0.1)  # until it does so; if it is not there yet, it is only less deaf
    large = stage.machine | {"large": "x" * 5_000_000}
    assert stage.invoke("deaf", large) == "Sandbox.Timedout: Task timed out after 1.00 seconds"
    stage.ask("retire", name="deaf")
    stage.is_unharmed()
