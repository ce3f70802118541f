"""Attacks on what other functions, and other environments, have had in their hands."""

from __future__ import annotations

import pytest

from tests.sandbox.attacks.attack import Attack
from tests.sandbox.attacks.stage import NEIGHBOURS_EVENT, NEIGHBOURS_SECRET, Stage

# All that it can read of itself is copied before the words exist in it: they come backwards.
_SEARCH = """
    libc.prctl(4, 1, 0, 0, 0)  # it hides its memory, from itself too
    copies = []
    with open('/proc/self/maps') as maps, open('/proc/self/mem', 'rb', buffering=0) as memory:
        for line in maps:
            start, end = (int(each, 16) for each in line.split()[0].split('-'))
            if line.split()[1].startswith('rw'):
                with contextlib.suppress(OSError, ValueError):
                    memory.seek(start)
                    copies.append(memory.read(end - start) or b'')
    words = [word[::-1].encode() for word in machine.backwards]
    return [sum(map(len, copies)) > 1_000_000, [any(word in copy for copy in copies) for word in words]]
"""

ATTACKS = [
    Attack(
        "memory that is not clean",
        "memory access",
        """
        fresh = mmap.mmap(-1, 64 << 20)
        unshared = os.memfd_create('x')
        os.ftruncate(unshared, 1 << 20)
        return [fresh[:].count(0) == 64 << 20, os.read(unshared, 1 << 20).count(0) == 1 << 20]
        """,
        [True, True],
        settings={"memory_size": 1769},
    ),
    Attack(
        "the name of the machine, and who it is there",
        "full sandbox",
        "return [socket.gethostname() == 'eventfn', os.getcwd() == '/var/task', os.getuid() == 993, os.getpid() < 10]",
        [True] * 4,
        open=[False] * 4,
    ),
    Attack(
        "where its files are on the machine",
        "full sandbox",
        "return machine.code in open('/proc/self/mountinfo').read()",
        True,  # by design: docs/security.md says so
        open=False,
    ),
    Attack(
        "the objects of eventfn in its interpreter",
        "memory access",
        """
        names = [name for name in sys.modules if name.startswith(('eventfn', 'msgspec', 'aiohttp'))]
        kinds = {type(each).__module__ for each in gc.get_objects()}
        held = [kind for kind in kinds if kind.startswith('eventfn.workers.pool')]
        return [names, held]
        """,
        [[], []],
    ),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_nothing_of_others_is_found(stage: Stage, attack: Attack) -> None:
    stage.stands_up_to(attack)


def test_events_and_variables_of_others_are_in_no_memory_of_its_own(stage: Stage) -> None:
    stage.deploy("searcher", _SEARCH, memory_size=1769)
    own = "own-word-of-the-searcher"
    words = [NEIGHBOURS_EVENT, NEIGHBOURS_SECRET, "known-to-the-supervisor-alone", "token-of-node.json", own]
    event = stage.machine | {"backwards": [word[::-1] for word in words], "own": own}
    event |= {"processes": {}}
    large, found = stage.invoke("searcher", event)
    stage.ask("retire", name="searcher")
    assert large
    assert found == [False, False, False, False, True]
    stage.is_unharmed()


def test_no_two_environments_draw_the_same_numbers(stage: Stage) -> None:
    """From a zygote in which all of these had their seeds, if they did."""
    code = """
    numbers = [random.random(), ssl.RAND_bytes(16).hex(), uuid.uuid4().hex, os.urandom(9).hex(), random.getrandbits(64)]
    time.sleep(0.3)
    return numbers, hash('the same in each: the seed of the zygote')
    """
    stage.deploy("drawing", code)
    both = [stage.begin("invoke", name="drawing", event=stage.machine) for _ in range(3)]
    answers = [stage.outcome(each) for each in both]
    drawn = [number for numbers, _ in answers for number in numbers]
    assert len(set(drawn)) == 15
    assert len({hashed for _, hashed in answers}) == 1, "docs/security.md says otherwise"
    stage.ask("retire", name="drawing")
    stage.is_unharmed()


def test_what_one_environment_leaves_in_tmp_the_next_does_not_find(stage: Stage) -> None:
    leave = (
        "open('/tmp/left-behind', 'w').write('secret')\nopen('/dev/shm/left-behind', 'w').write('secret')\nos._exit(0)"
    )
    stage.deploy("leaving", leave)
    stage.invoke("leaving", stage.machine)
    stage.ask("retire", name="leaving")
    look = """
    found = [os.path.exists(folder + '/left-behind') for folder in ('/tmp', '/dev/shm')]
    for folder in ('/tmp', '/dev/shm'):
        with contextlib.suppress(OSError):
            os.unlink(folder + '/left-behind')
    return found
    """
    stage.stands_up_to(Attack("left", "own /tmp", look, [False, False], open=[True, True]))
