"""Opens an OME-Zarr volume in neuroglancer, in a browser without a screen, and keeps the picture.

    pip install neuroglancer rangehttpserver
    python scripts/dev/neuroglancer_opens.py <run folder>/translation.ome.zarr picture.png

Neuroglancer's own program, in Debian's chromium, reads the volume over HTTP from this
machine.  Prints what it took the axes and the size of the voxels for.
"""

import functools
import subprocess
import sys
import tempfile
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import neuroglancer
from RangeHTTPServer import RangeRequestHandler

SECONDS = 90
BROWSER = ["chromium", "--headless=new", "--no-sandbox", "--remote-debugging-port=0"]
BROWSER += ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
BROWSER += ["--window-size=1200,900"]


class Volumes(RangeRequestHandler):
    """Gives out files in parts, as shards are read, also to a page from elsewhere."""

    def end_headers(self) -> None:
        """Allows the viewer's page to read."""
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def main() -> None:
    """Serves, looks, keeps the picture."""
    volume, picture = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    files = functools.partial(Volumes, directory=str(volume.parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    neuroglancer.set_server_bind_address("127.0.0.1")
    viewer, done, shots = neuroglancer.Viewer(), threading.Event(), []
    with viewer.txn() as state:
        source = f"zarr://http://127.0.0.1:{server.server_address[1]}/{volume.name}"
        state.layers["volume"] = neuroglancer.ImageLayer(source=source)
    with tempfile.TemporaryDirectory() as profile:
        command = [*BROWSER, f"--user-data-dir={profile}", str(viewer)]
        browser = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            viewer.async_screenshot(lambda reply: (shots.append(reply.screenshot), done.set()))
            if not done.wait(SECONDS):
                sys.exit(f"no picture of {volume} within {SECONDS} s")
        finally:
            browser.terminate()
            browser.wait()
    picture.write_bytes(shots[0].image)
    print(viewer.state.to_json()["dimensions"])


if __name__ == "__main__":
    main()
