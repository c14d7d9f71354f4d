"""A real SSH server with SFTP on a free port of 127.0.0.1, for one user with one key.

Run as a program: `python ssh_server.py FOLDER` writes the client's private key (`id`), and a
`known_hosts` with its own, into FOLDER, prints its port and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncssh


async def serve(folder: Path) -> None:
    host, client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    client.write_private_key(folder / "id")
    (folder / "id").chmod(0o600)
    client.write_public_key(folder / "authorized_keys")
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host],
        authorized_client_keys=str(folder / "authorized_keys"),
        sftp_factory=True,
    )
    port = server.sockets[0].getsockname()[1]
    public = host.export_public_key().decode()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
