"""relay.py LISTEN TO COUNTS - passes TCP connections on and counts: the ground truth of bytes for protocols that no tool parses.

At SIGTERM it writes to COUNTS: connections, bytes from the clients, bytes to the clients.
"""
import asyncio, signal, sys

count = {"connections": 0, "up": 0, "down": 0}


async def pass_on(reader, writer, way):
    while data := await reader.read(65536):
        count[way] += len(data)
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def serve(reader, writer):
    count["connections"] += 1
    try:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
        await asyncio.gather(pass_on(reader, up_writer, "up"), pass_on(up_reader, writer, "down"), return_exceptions=True)
        up_writer.close()
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
    with open(sys.argv[3], "w") as f:
        print(count["connections"], count["up"], count["down"], file=f)

asyncio.run(main())
