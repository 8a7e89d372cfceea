"""Starts a page on which images are segmented, thresholds changed and cells corrected.

    segjax serve
    segjax serve --workdir=runs/mine --port=8765

Then open http://127.0.0.1:8765 in a browser. The page takes images, segments them by a network or a
classical method, shows the effect of each setting at once, counts the cells and draws the histogram of their
areas. Cells can be deleted, merged and drawn. It downloads the formats of segjax predict, and a folder that
segjax prepare takes, so that a network can be trained on the corrected cells.

Only this machine can open the page, unless --host is another address; then every machine that reaches it can,
without a password. Images are only in the memory of the server, separately for each browser. They are removed
after an hour without use, when a 33rd browser needs the place of the one that was idle for longest, and when
the server stops: download your corrections before. The server sends no request to other machines. It needs
the packages of an extra: pip install "segjax[serve]".

Programs use the same server:

    curl --data-binary @a.png "http://127.0.0.1:8765/api/segment?name=a.png&formats=labels,csv" -o a.zip
    curl --data-binary @a.png "http://127.0.0.1:8765/api/segment?method=watershed&diameter=30&h=0.8" -o a.zip
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from absl import flags

from segjax import cli
from segjax.errors import InputError

HOST = flags.DEFINE_string("host", "127.0.0.1", "Address at which the server listens.")
PORT = flags.DEFINE_integer(
    "port", 8765, "Port of the server; 0 for a free one.", lower_bound=0, upper_bound=65535
)
WORKDIR = flags.DEFINE_list("workdir", [], "Folders of runs of segjax train, offered before other methods.")
MODEL = flags.DEFINE_list("model", [], "Files of segjax export, offered before other methods.")
MAX_UPLOAD = flags.DEFINE_integer("max_upload", 200, "Largest file in MiB.", lower_bound=1)


def main() -> None:
    """Serves until it is stopped."""
    try:
        import uvicorn

        from segjax.serving.app import make_app
    except ModuleNotFoundError as error:
        raise InputError(
            f"segjax serve needs the package {error.name}: run pip install 'segjax[serve]'"
        ) from error
    from segjax.classical import METHODS
    from segjax.experiment.methods import open_method
    from segjax.models.weights.network import names
    from segjax.serving.guard import LOOPBACK
    from segjax.serving.methods import ServedMethod
    from segjax.serving.server import Server
    from segjax.serving.workspaces import Limits

    def opener(name: str) -> Callable[[], ServedMethod]:
        return functools.cache(lambda: ServedMethod(name, open_method(name)))

    own = [str(Path(source).expanduser()) for source in (*WORKDIR.value, *MODEL.value)]
    methods = {name: opener(name) for name in (*own, *names(), *METHODS)}
    for name in own:
        methods[name]()  # a wrong path is an error at the start, not at the first request
    server = Server(methods, Limits(upload=MAX_UPLOAD.value * 2**20))
    is_local = HOST.value in LOOPBACK
    if not is_local:
        print(f"every machine that reaches {HOST.value} can use this server: there is no password")
    app = make_app(server, LOOPBACK if is_local else None)
    config = uvicorn.Config(
        app, HOST.value, PORT.value, access_log=False, log_level="warning", server_header=False, ws="none"
    )
    try:
        socket = config.bind_socket()
    except SystemExit:
        raise InputError(
            f"--host={HOST.value} --port={PORT.value} is in use or not allowed: choose another port"
        ) from None
    socket.listen()  # programs may call as soon as the address is printed
    address = f"[{HOST.value}]" if ":" in HOST.value else HOST.value
    print(f"http://{address}:{socket.getsockname()[1]} - stop it by Ctrl-C", flush=True)
    uvicorn.Server(config).run([socket])


if __name__ == "__main__":
    cli.run(main)
