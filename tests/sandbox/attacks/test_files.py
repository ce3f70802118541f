"""Attacks on the files of the machine, of other functions, and on one's own that are not to be changed."""

from __future__ import annotations

import pytest

from tests.sandbox.attacks.attack import Attack, OneOf
from tests.sandbox.attacks.stage import Stage

REACH = [
    Attack("passwords", "files", "return attempt(read, '/etc/shadow')", "ENOENT", "EACCES"),
    Attack(
        "homes",
        "files",
        "return [attempt(read, '/root/.bashrc'), attempt(os.listdir, '/home'), attempt(os.listdir, '/root/.ssh')]",
        ["ENOENT"] * 3,
        [OneOf("EACCES", "ENOENT"), "EACCES", OneOf("EACCES", "ENOENT")],
    ),
    Attack(
        "the token in the data folder",
        "files",
        "return [attempt(read, machine.data + '/node.json'), attempt(os.listdir, machine.data)]",
        ["ENOENT"] * 2,
        ["EACCES"] * 2,
    ),
    Attack(
        "the code of another function",
        "files",
        """
        others = machine.neighbours_code
        return [attempt(read, others + '/main.py'), attempt(os.listdir, os.path.dirname(others))]
        """,
        ["ENOENT"] * 2,
        ["EACCES"] * 2,
    ),
    Attack(
        "what the kernel says of the machine",
        "files",
        """
        return [attempt(os.listdir, '/sys'), attempt(read, '/proc/cmdline'), attempt(write, '/proc/sys/kernel/tainted')]
        """,
        ["ENOENT"] * 3,
        ["EACCES"] * 3,
    ),
    Attack(
        "devices",
        "files",
        "return [attempt(read, each) for each in ('/dev/mem', '/dev/kmsg', '/dev/fuse', '/dev/kvm', '/dev/tty')]",
        ["ENOENT"] * 5,
        [OneOf("EACCES", "ENOENT")] * 5,
    ),
    Attack(
        "a symlink to the token",
        "files",
        """
        os.symlink(machine.data + '/node.json', f'/tmp/{os.getpid()}.link')
        try:
            return attempt(read, f'/tmp/{os.getpid()}.link')
        finally:
            os.unlink(f'/tmp/{os.getpid()}.link')
        """,
        "ENOENT",
        "EACCES",
    ),
    Attack(
        "hard links to what is not its own",
        "files",
        """
        from tools import __file__ as own
        sources = ['/etc/passwd', machine.data + '/node.json', own, '/usr/bin/env']
        return [attempt(os.link, source, f'/tmp/{os.getpid()}.hard') for source in sources]
        """,
        ["EXDEV", "ENOENT", "EXDEV", "EXDEV"],
        [OneOf("EXDEV", "EACCES", "EPERM")] * 4,
    ),
    Attack(
        "moving its code away",
        "files",
        "return attempt(os.rename, os.getcwd() + '/main.py', '/tmp/main.py')",
        "EXDEV",
        OneOf("EXDEV", "EACCES"),
    ),
    Attack(
        "up and out by its own root",
        "files",
        """
        roots = ['/proc/self/root', '/proc/thread-self/root', '/proc/self/root/proc/self/root', '/..' * 30]
        roots += ['/proc/self/cwd' + '/..' * 30, '/dev/fd/0/../../..', '/tmp' + '/..' * 9]
        return [attempt(read, root + machine.data + '/node.json') for root in roots]
        """,
        [OneOf("ENOENT", "ENOTDIR")] * 7,
        [OneOf("EACCES", "ENOTDIR")] * 7,
    ),
    Attack(
        "up and out by the root of the first process",
        "files",
        "return [attempt(read, f'/proc/{pid}/root' + machine.data + '/node.json') for pid in (1, machine.pid)]",
        [OneOf("EACCES", "EPERM"), "ENOENT"],
        ["EACCES"] * 2,
    ),
    Attack(
        "what lies behind its descriptors",
        "files",
        """
        found = []
        for number in range(4):
            descriptor = attempt(os.open, '..', os.O_RDONLY, dir_fd=number)
            found.append(descriptor if isinstance(descriptor, str) else os.listdir(descriptor))
        return found
        """,
        ["ENOTDIR"] * 4,
    ),
    Attack(
        "a folder of the machine that it was lent for reading",
        "files",
        """
        place = '/mnt/lent' if os.path.exists('/mnt/lent') else machine.lent
        return [attempt(read, place + '/kept'), attempt(write, place + '/kept'), attempt(write, place + '/more'),
                attempt(read, place + '/../data/node.json'), attempt(read, place + '/out')]
        """,
        ["lent", "EROFS", "EROFS", "ENOENT", "ENOENT"],
        ["lent", "EACCES", "EACCES", "EACCES", "EACCES"],
        settings={"file_system_configs": "lent"},
    ),
]

CHANGE = [
    Attack(
        "writing everywhere",
        "files",
        """
        folders = ['/', '/usr', '/usr/bin', '/etc', '/dev', '/proc', '/var', '/var/tmp', '/run', '/home', '/opt']
        folders += ['/mnt', os.getcwd(), machine.folder, machine.data, *not_below_tmp(sys.path)]
        got = [folder for folder in folders if attempt(write, folder + '/mine.py') == 'done']
        got += [folder for folder in folders if isinstance(attempt(os.open, folder, os.O_TMPFILE | os.O_RDWR), int)]
        return got
        """,
        [],
    ),
    Attack(
        "overwriting programs and libraries",
        "files",
        """
        files = ['/usr/bin/env', '/etc/passwd', '/etc/ld.so.cache', json.__file__, os.getcwd() + '/main.py']
        files += [path for folder in not_below_tmp(sys.path) for path in glob.glob(folder + '/*.py')][:20]
        def cut(path):
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
        # Whose they are is looked at before whether they can be changed at all.
        found = {attempt(cut, path) for path in files} | {attempt(os.truncate, path, 0) for path in files}
        return found <= {'EROFS', 'EACCES'}
        """,
        True,
    ),
    Attack(
        "removing and renaming",
        "files",
        """
        files = ['/usr/bin/env', '/etc/passwd', json.__file__, os.getcwd() + '/main.py', machine.data + '/eventfn.db']
        return [[attempt(os.unlink, path), attempt(os.rename, path, path + '.old')] for path in files]
        """,
        [["EROFS"] * 2] * 4 + [["ENOENT"] * 2],
        [[OneOf("EACCES", "EROFS")] * 2] * 5,
    ),
    Attack(
        "bytecode beside the code",
        "files",
        "return [attempt(os.mkdir, folder + '/__pycache__') for folder in (os.getcwd(), '/var/runtime', '/usr/lib')]",
        [OneOf("EROFS", "EEXIST")] * 3,
        [OneOf("EACCES", "ENOENT", "EEXIST")] * 3,
    ),
    Attack(
        "modes and times of what it cannot open",
        "file modes",
        "own = machine.folder + '/own'\nreturn [attempt(os.chmod, own, 0o666), attempt(os.utime, own, (1, 1))]",
        ["ENOENT"] * 2,
        open=["done"] * 2,
    ),
    Attack(
        "modes and times of its own code",
        "file modes",
        "own = os.getcwd() + '/main.py'\nreturn [attempt(os.chmod, own, 0), attempt(os.utime, own, (1, 1))]",
        ["EROFS"] * 2,
        open=["done"] * 2,
    ),
    Attack(
        "device nodes of its own",
        "system calls",
        """
        kinds = [(stat.S_IFBLK, os.makedev(8, 0)), (stat.S_IFCHR, os.makedev(1, 1)), (stat.S_IFCHR, 0)]
        return [attempt(os.mknod, f'/tmp/{os.getpid()}.device', 0o600 | kind, device) for kind, device in kinds]
        """,
        ["EPERM"] * 3,
    ),
    Attack(
        "a program that makes others this user",
        "system calls",
        """
        path = f'/tmp/{os.getpid()}.program'
        write(path)
        try:
            how = [lambda: os.chmod(path, 0o4755), lambda: os.close(os.open(path + 's', os.O_CREAT, 0o6755))]
            how += [lambda: os.fchmod(0, 0o2755), lambda: os.mknod(path + 'n', 0o4755)]
            return [attempt(each) for each in how]
        finally:
            os.unlink(path)
        """,
        ["EPERM"] * 4,
    ),
    Attack(
        "stalling whoever opens a file",
        "system calls",
        "with open('/etc/passwd') as file:\n    return attempt(fcntl.fcntl, file, fcntl.F_SETLEASE, fcntl.F_RDLCK)",
        "EPERM",
    ),
]

OWN_TMP = [
    Attack(
        "what others have in /tmp",
        "own /tmp",
        "return [os.path.exists(path) for path in machine.sockets[:2]]",
        [False] * 2,
        open=[True] * 2,
    ),
    Attack(
        "filling /tmp with bytes",
        "own /tmp",
        """
        path = f'/tmp/{os.getpid()}.large'
        try:
            with open(path, 'wb') as file:
                return attempt(lambda: [file.write(bytes(1 << 20)) and None for _ in range(12)] and file.flush())
        finally:
            os.unlink(path)
        """,
        "ENOSPC",
        open="done",
        settings={"ephemeral_storage": 10},
    ),
    Attack(
        "filling /tmp with files",
        "own /tmp",
        """
        folder = f'/tmp/{os.getpid()}.many'
        os.mkdir(folder)
        made = 0
        try:
            while made < 600 and attempt(write, f'{folder}/{made}', '') != 'ENOSPC':
                made += 1
        finally:
            for name in os.listdir(folder):
                os.unlink(f'{folder}/{name}')
            os.rmdir(folder)
        return made < 512
        """,
        True,
        open=False,
        settings={"ephemeral_storage": 2},
    ),
    Attack(
        "filling shared memory",
        "own /tmp",
        """
        path = f'/dev/shm/{os.getpid()}.large'
        def fill():
            with open(path, 'wb') as file:
                for _ in range(66):
                    file.write(bytes(1 << 20))
        try:
            return attempt(fill)
        finally:
            os.unlink(path)
        """,
        "ENOSPC",
        open="done",
    ),
    Attack(
        "programs in shared memory",
        "own /tmp",
        """
        path = f'/dev/shm/{os.getpid()}.program'
        try:
            write(path, '#!/bin/true')
            os.chmod(path, 0o700)
            return attempt(lambda: subprocess.run([path]).returncode)
        finally:
            os.unlink(path)
        """,
        "EACCES",
        open=OneOf(0, "EACCES"),  # as the machine has mounted it
    ),
]


@pytest.mark.parametrize("attack", REACH, ids=lambda attack: attack.name)
def test_what_cannot_be_read(stage: Stage, attack: Attack) -> None:
    if attack.settings:
        lent = stage.machine["lent"]
        lending = {"path": lent, "local_mount_path": "/mnt/lent" if stage.tier == "full" else lent, "read_only": True}
        attack = attack._replace(settings={"file_system_configs": [lending]})
    stage.stands_up_to(attack)


@pytest.mark.parametrize("attack", CHANGE, ids=lambda attack: attack.name)
def test_what_cannot_be_changed(stage: Stage, attack: Attack) -> None:
    stage.stands_up_to(attack)


@pytest.mark.parametrize("attack", OWN_TMP, ids=lambda attack: attack.name)
def test_its_tmp(stage: Stage, attack: Attack) -> None:
    stage.stands_up_to(attack)
