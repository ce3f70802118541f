"""aws-lambda-java-runtime-interface-client, with the native library that it brings."""

from __future__ import annotations

from pathlib import Path

from tests.clients.build import SOURCES, Build, bootstrap, run

VERSION = "2.9.0"
_POM = """
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>eventfn</groupId><artifactId>function</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>com.amazonaws</groupId><artifactId>aws-lambda-java-runtime-interface-client</artifactId>
    <version>VERSION</version>
  </dependency></dependencies>
</project>
""".strip()


def _make(folder: Path) -> None:
    work = folder.parent
    (work / "pom.xml").write_text(_POM.replace("VERSION", VERSION))
    run(["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder / 'lib'}"], work)
    source = SOURCES / "java" / "Function.java"
    run(["javac", "-cp", f"{folder}/lib/*", "-d", str(folder), str(source)], work)
    # As AWS starts it: a quick start rather than fast code.
    options = "-XX:+TieredCompilation -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto"
    client = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda"
    bootstrap(folder, f'java {options} -cp "/var/task:/var/task/lib/*" {client} "$_HANDLER"')


_JDK = "apt-get install openjdk-17-jdk-headless"
BUILD = Build(
    "java-ric",
    VERSION,
    _make,
    {"mvn": "apt-get install maven", "javac": _JDK},
    [SOURCES / "java", Path(__file__)],
    {"java": _JDK},
)
