"""ElasticMQ: SQS, on Java. `python -m tests.servers.elasticmq` fetches it from Maven Central.

with elasticmq.server(folder) as sqs:
    sqs.url
    sqs.kill(); sqs.start()        # what was in its queues is there again
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import dedent

from tests.servers.process import HttpServer, free_port

ACCOUNT = "000000000000"
VERSION = "1.7.1"
JARS = Path.home() / ".cache" / "eventfn-tests" / f"elasticmq-{VERSION}"


def missing() -> str | None:
    """What to install, or None."""
    if shutil.which("java") is None:
        return "apt-get install openjdk-17-jre-headless"
    return None if JARS.is_dir() else "python -m tests.servers.elasticmq"


def fetch() -> None:
    """Into the cache, whole or not at all."""
    JARS.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=JARS.parent) as work:
        (Path(work) / "pom.xml").write_text(
            f"""
            <project xmlns="http://maven.apache.org/POM/4.0.0">
              <modelVersion>4.0.0</modelVersion>
              <groupId>eventfn</groupId><artifactId>elasticmq</artifactId><version>1</version><packaging>pom</packaging>
              <dependencies><dependency>
                <groupId>org.elasticmq</groupId><artifactId>elasticmq-server_2.13</artifactId><version>{VERSION}</version>
              </dependency></dependencies>
            </project>
            """.strip()
        )
        jars = Path(work) / "jars"
        copy = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        subprocess.run(copy, cwd=work, check=True)
        jars.rename(JARS)


def server(folder: Path) -> HttpServer:
    port = free_port()
    config = folder / "elasticmq.conf"
    config.write_text(
        dedent(f"""
            include classpath("application.conf")
            node-address {{ protocol = http, host = "127.0.0.1", port = {port}, context-path = "" }}
            rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = "127.0.0.1", sqs-limits = strict }}
            rest-stats {{ enabled = false }}
            aws {{ region = eu-west-1, accountId = {ACCOUNT} }}
            messages-storage {{ enabled = true, uri = "jdbc:h2:{folder}/elasticmq;WRITE_DELAY=0" }}
        """)
    )
    # It lives for a minute: little memory, and a quick start rather than fast code.
    java = ["java", "-Xmx192m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Dconfig.file={config}"]
    return HttpServer([*java, "-cp", f"{JARS}/*", "org.elasticmq.server.Main"], port, folder / "elasticmq.log")


if __name__ == "__main__":
    if JARS.is_dir():
        print(f"{JARS} is there")
    elif shutil.which("mvn") is None:
        sys.exit("mvn is missing: apt-get install maven")
    else:
        fetch()
