"""One connection to a broker, from CONNECT to its end. Who uses it reconnects by opening another one."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Self

from eventfn.errors import ConnectorError
from eventfn_mqtt import packets
from eventfn_mqtt.packets import NONE, Answer, Connack, Goodbye, Malformed, Packet, Properties, Publish
from eventfn_mqtt.settings import Broker

TIMEOUT = 15.0  # seconds that the broker has for an answer
KEEP_ALIVE = 30  # seconds; the broker gives us up after one and a half of them without a sign of life
_FIRST_REFUSAL = 0x80  # reason codes from here on say that it was not done


class Connection:
    """Messages go to `on_message` as they come, unless `room` is cleared: then what comes waits in the network."""

    def __init__(
        self,
        broker: Broker,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_message: Callable[[Publish], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.session_present = False
        self.server: Properties = NONE  # what it said of itself when it took us
        self.lost: str | None = None  # why there is no connection any more
        self.room = asyncio.Event()
        self.room.set()
        self._version: packets.Version = broker.protocol
        self._reader = reader
        self._writer = writer
        self._on_message = on_message
        self._on_lost = on_lost
        self._heard = True  # something, since the last ping
        self._identifier = 0
        self._waiting: dict[int, asyncio.Future[Answer]] = {}  # packet identifier -> who waits for its answer
        self._in_flight = asyncio.Semaphore(65_535)
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        broker: Broker,
        folder: str,
        client_id: str,
        *,
        clean: bool,
        properties: Properties,
        on_message: Callable[[Publish], None],
        on_lost: Callable[[], None],
    ) -> Self:
        """Raises ConnectorError. Files are relative to the project's `folder`."""
        with telling(f"cannot connect to the MQTT broker at {broker.host}:{broker.port}"):
            async with asyncio.timeout(TIMEOUT):
                tls = _tls(broker, Path(folder)) if broker.encrypted else None
                reader, writer = await asyncio.open_connection(broker.host, broker.port, ssl=tls)
                connection = cls(broker, reader, writer, on_message, on_lost)
                try:
                    await connection._introduce(broker, client_id, clean, properties)
                except BaseException:
                    writer.transport.abort()
                    raise
        return connection

    async def _introduce(self, broker: Broker, client_id: str, clean: bool, properties: Properties) -> None:
        username, password = broker.credentials
        self._writer.write(
            packets.connect(
                self._version,
                client_id,
                clean=clean,
                keep_alive=KEEP_ALIVE,
                username=username,
                password=password,
                properties=properties,
            )
        )
        try:
            hello = await self._next()
        except EOFError as error:
            raise ConnectorError(
                f"the MQTT broker at {broker.host}:{broker.port} closed the connection and said nothing: if it does "
                f"not speak version {self._version}, set `protocol`"
            ) from error
        if not isinstance(hello, Connack):
            raise Malformed("it does not begin with CONNACK")
        if hello.reason:
            raise ConnectorError(
                f"the MQTT broker at {broker.host}:{broker.port} refuses us: {packets.reason_text(hello.reason)}"
            )
        self.session_present = hello.session_present
        self.server = hello.properties
        self._in_flight = asyncio.Semaphore(hello.properties.get("receive_maximum", 65_535))
        keep_alive = hello.properties.get("server_keep_alive") or KEEP_ALIVE
        self._tasks = [
            asyncio.create_task(self._read()),
            asyncio.create_task(self._ping(min(keep_alive, KEEP_ALIVE) / 2)),
        ]

    # --- what is asked of the broker ----------------------------------------------------------------------------------

    async def subscribe(self, filters: Sequence[str], qos: int) -> tuple[int, ...]:
        """The quality of service that is granted for each. Raises ConnectorError when one is refused."""
        packet = self._next_identifier()
        answer = await self._ask(packet, packets.subscribe(self._version, packet, filters, qos))
        for pattern, reason in zip(filters, answer.reasons, strict=False):
            if reason >= _FIRST_REFUSAL:
                raise ConnectorError(f"the broker refuses a subscription to {pattern}: {packets.reason_text(reason)}")
        return answer.reasons

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        packet = self._next_identifier()
        await self._ask(packet, packets.unsubscribe(self._version, packet, filters))

    async def publish(self, topic: str, payload: bytes, properties: Properties) -> int:
        """With quality of service 1; the broker's reason code, once it has answered."""
        async with self._in_flight:
            packet = self._next_identifier()
            message = packets.publish(self._version, Publish(topic, payload, 1, False, False, packet, properties))
            if len(message) > self.server.get("maximum_packet_size", len(message)):
                return packets.TOO_LARGE  # it would end the connection
            return (await self._ask(packet, message)).reasons[0]

    async def acknowledge(self, messages: Sequence[Publish]) -> None:
        """The broker may forget these. At quality of service 2 it then asks once more, which `_read` answers."""
        answers = [
            packets.answer(packets.PUBACK if message.qos == 1 else packets.PUBREC, message.packet)
            for message in messages
            if message.packet is not None
        ]
        with telling("cannot acknowledge"):
            await self._write(b"".join(answers))

    async def _ask(self, packet: int, question: bytes) -> Answer:
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[packet] = waiter
        try:
            with telling("the MQTT broker does not answer"):
                async with asyncio.timeout(TIMEOUT):
                    await self._write(question)
                    return await waiter
        finally:
            del self._waiting[packet]

    async def _write(self, data: bytes) -> None:
        if self.lost is not None:
            raise ConnectorError(self.lost)
        self._writer.write(data)
        await self._writer.drain()

    def _next_identifier(self) -> int:
        while True:
            self._identifier = self._identifier % 65_535 + 1
            if self._identifier not in self._waiting:
                return self._identifier

    # --- what comes from it -------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while True:
                packet = await self._next()
                self._heard = True
                self._take(packet)
                await self.room.wait()
        except EOFError:
            self._lose("the broker closed the connection, as it does when another client comes with the same client_id")
        except (OSError, Malformed) as error:
            self._lose(f"the connection was lost: {error}")
        except ConnectorError as said:
            self._lose(str(said))

    def _take(self, packet: Packet) -> None:
        match packet:
            case Publish():
                self._on_message(packet)
            case Answer(kind=packets.PUBREL):
                self._writer.write(packets.answer(packets.PUBCOMP, packet.packet))
            case Answer():
                waiter = self._waiting.get(packet.packet)
                if waiter is not None and not waiter.done():
                    waiter.set_result(packet)
            case Goodbye():
                raise ConnectorError(f"the broker ended the connection: {packets.reason_text(packet.reason)}")
            case Connack():
                raise Malformed("a second CONNACK")
            case packets.Pong():
                pass

    async def _next(self) -> Packet:
        first = (await self._reader.readexactly(1))[0]
        length = 0
        for place in range(4):
            byte = (await self._reader.readexactly(1))[0]
            length |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                break
        else:
            raise Malformed("a length of more than four bytes")
        return packets.decode(self._version, first, await self._reader.readexactly(length))

    async def _ping(self, every: float) -> None:
        """The protocol's sign of life: both sides notice a network that is gone."""
        while True:
            await asyncio.sleep(every)
            if not self._heard:
                self._lose(f"the broker is silent for {every:g} s")
                return
            self._heard = not self.room.is_set()  # nobody listens now
            self._writer.write(packets.PINGREQ)

    def _lose(self, why: str) -> None:
        self.lost = self.lost or why
        self._writer.transport.abort()
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(ConnectorError(why))
        self._on_lost()

    async def close(self) -> None:
        """The broker keeps the session, unless it was a clean one."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.lost is None:
            self.lost = "closed"
            self._writer.write(packets.disconnect())
            self._writer.close()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(TIMEOUT):
                await self._writer.wait_closed()


@contextlib.contextmanager
def telling(what: str) -> Generator[None]:
    """What the network raises as ConnectorError, beginning with `what`."""
    try:
        yield
    except TimeoutError as error:
        raise ConnectorError(f"{what}: nothing came within {TIMEOUT:g} s") from error
    except EOFError as error:
        raise ConnectorError(f"{what}: it closed the connection") from error
    except (OSError, Malformed) as error:
        raise ConnectorError(f"{what}: {error}") from error


def _tls(broker: Broker, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if broker.ca_file is None else folder / broker.ca_file)
    if broker.cert_file is not None and broker.key_file is not None:
        context.load_cert_chain(folder / broker.cert_file, folder / broker.key_file)
    return context
