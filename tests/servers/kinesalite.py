"""kinesalite: Kinesis alone, on node, forgotten when it ends; the only one here whose shards close, split and merge as
AWS' do. `python -m tests.servers.kinesalite` fetches it from npm's registry.

with kinesalite.server(folder) as kinesis:
    kinesis.url
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers.process import HttpServer, free_port

VERSION = "3.3.3"
MODULES = Path.home() / ".cache" / "eventfn-tests" / f"kinesalite-{VERSION}"

_RUN = """
const options = {createStreamMs: 5, deleteStreamMs: 5, updateStreamMs: 5, shardLimit: 1000}
require('kinesalite')(options).listen(Number(process.argv[1]), '127.0.0.1')
"""


def missing() -> str | None:
    """What to install, or None."""
    if shutil.which("node") is None:
        return "apt-get install nodejs npm"
    return None if MODULES.is_dir() else "python -m tests.servers.kinesalite"


def fetch() -> None:
    """Into the cache, whole or not at all. It runs in memory: nothing has to be compiled."""
    MODULES.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=MODULES.parent) as work:
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional"]
        subprocess.run([*install, "--prefix", work, f"kinesalite@{VERSION}"], check=True)
        (Path(work) / "node_modules").rename(MODULES)


def server(folder: Path) -> HttpServer:
    port = free_port()
    environment = {"NODE_PATH": str(MODULES)}
    return HttpServer(["node", "-e", _RUN, str(port)], port, folder / "kinesalite.log", environment)


if __name__ == "__main__":
    if MODULES.is_dir():
        print(f"{MODULES} is there")
    elif shutil.which("npm") is None:
        sys.exit("npm is missing: apt-get install npm")
    else:
        fetch()
