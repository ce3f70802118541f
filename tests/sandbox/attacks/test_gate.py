"""Attacks on requests that are sent ahead to a quick function, and on the gate that says which of them are begun.

Both are the function's to do with as it likes: whoever waits for one of its requests has one answer, which is the
function's or says how its environment ended, and nobody else notices.
"""

from __future__ import annotations

import pytest

from tests.sandbox.attacks.stage import Stage

_GATE = 5

_HANDLER = """
from tools import *

done = []

def take_requests(most):
    taken = b''
    while len(taken) < most and select.select([3], [], [], 0.05)[0]:
        more = os.read(3, 4096)
        if not more:
            break
        taken += more
    return taken

def answer_those(taken):
    # What came ahead, in the function's own words, and each of it twice.
    while len(taken) >= 26:
        kind, _, number, _, _, header, payload, body = struct.unpack_from('!BBIIIIII', taken)
        size = 26 + header + payload + body
        says = b'"not asked"'
        os.write(3, 2 * (struct.pack('!BBIIIIII', 11, 0, number, 0, 0, 0, len(says), 0) + says))
        taken = taken[size:]

def handler(event, context):
    if event['do'] and not done:
        done.append(True)
        exec(event['do'])
    return event['number']
"""

ATTACKS = {
    "taking it": f"os.read({_GATE}, 8)",
    "taking it in turns": f"""
def in_turns():
    while True:
        with contextlib.suppress(OSError):
            os.eventfd_write({_GATE}, os.eventfd_read({_GATE}))
threading.Thread(target=in_turns, daemon=True).start()
""",
    "taking it when it has it": f"""
def take():
    while True:
        with contextlib.suppress(OSError):
            os.eventfd_read({_GATE})
threading.Thread(target=take, daemon=True).start()
""",
    "less than were begun": f"os.eventfd_read({_GATE}); os.eventfd_write({_GATE}, 1)",
    "nothing was ever begun": f"""
def again():
    while True:
        with contextlib.suppress(OSError):
            os.eventfd_read({_GATE})
            os.eventfd_write({_GATE}, 1)
threading.Thread(target=again, daemon=True).start()
""",
    "more than there are": f"os.eventfd_write({_GATE}, 1 << 40)",
    "as much as it holds": f"os.eventfd_read({_GATE}); os.eventfd_write({_GATE}, (1 << 64) - 2)",
    "closing it": f"os.close({_GATE})",
    "another one in its place": f"os.dup2(os.eventfd(0), {_GATE})",
    "a file in its place": f"os.dup2(os.open('/dev/zero', os.O_RDWR), {_GATE})",
    "one that waits": f"fcntl.fcntl({_GATE}, fcntl.F_SETFL, 0); os.read({_GATE}, 8)",
    "locks and owners": f"""
fcntl.fcntl({_GATE}, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)
for what, value in ((fcntl.F_SETOWN, os.getpid()), (fcntl.F_SETSIG, signal.SIGKILL)):
    with contextlib.suppress(OSError):
        fcntl.fcntl({_GATE}, what, value)
with contextlib.suppress(OSError):
    fcntl.flock({_GATE}, fcntl.LOCK_EX)
""",
    "a child that has it too": f"""
if os.fork() == 0:
    while True:
        with contextlib.suppress(OSError):
            os.eventfd_read({_GATE})
""",
    "taking requests and going": "take_requests(1); os._exit(0)",
    "taking requests and the gate, and going": f"take_requests(1); os.eventfd_read({_GATE}); os._exit(3)",
    "taking requests and answering them": "answer_those(take_requests(1))",
    "taking half a request": "os.read(3, 30)",
    "taking requests, and never an answer": "take_requests(1); time.sleep(30)",
    "a copy that takes requests": """
if os.fork() == 0:
    while True:
        with contextlib.suppress(OSError):
            answer_those(take_requests(1))
""",
}
_MANY = 60


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_request_has_one_answer(stage: Stage, attack: str) -> None:
    stage.deploy("hasty", _HANDLER, timeout=1.0)
    for number in range(40):  # from a quick and silent function on, requests are sent ahead
        assert stage.invoke("hasty", {"do": "", "number": number}) == number
    quiet = [stage.begin("invoke", name="hasty", event={"do": "", "number": number}) for number in range(_MANY)]
    hostile = stage.begin("invoke", name="hasty", event={"do": ATTACKS[attack], "number": -1})
    more = [stage.begin("invoke", name="hasty", event={"do": "", "number": number}) for number in range(_MANY)]
    stage.outcome(hostile)
    for number, asked in [*enumerate(quiet), *enumerate(more)]:
        answer = stage.outcome(asked)
        assert answer in (number, "not asked") or answer.startswith(("Runtime.ExitError: ", "Sandbox.Timedout: ")), (
            answer
        )
    # The next one is served as if nothing had been, by whatever environment.
    for number in range(5):
        answer = stage.invoke("hasty", {"do": "", "number": number})
        assert answer in (number, "not asked") or answer.startswith(("Runtime.ExitError: ", "Sandbox.Timedout: ")), (
            answer
        )
    stage.ask("retire", name="hasty")
    stage.is_unharmed()
