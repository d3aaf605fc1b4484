"""Carries TCP connections from one address to another: `relay.py FROM TO`.

The practice server listens on loopback, and i2i speaks plain http with loopback alone. So it is loopback
at both ends, and the way between goes over the machine's cable. An end that goes away takes the
other one with it: what was given up is not delivered later.
"""

import asyncio
import sys


async def carry(reader, writer, *, polite):
    """Until the end; then the other side hears of it, after the last byte or at once."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        polite = False
    if polite:
        writer.close()
    else:
        writer.transport.abort()


async def main(source, target):
    async def connected(reader, writer):
        try:
            answers, requests = await asyncio.open_connection(*target)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(
            carry(reader, requests, polite=False), carry(answers, writer, polite=True)
        )

    server = await asyncio.start_server(connected, *source)
    print("ready", flush=True)  # noqa: T201
    await server.serve_forever()


def place(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    asyncio.run(main(place(sys.argv[1]), place(sys.argv[2])))
