"""Fetches the paper's published data: SEM tiles, micro-CT patches, and the authors' networks.

    .venv/bin/python scripts/get_paper_data.py [--to data] [--only LSK.zip LR.tar.gz] [--list]

The list of files with sizes and checksums is Zenodo's record 6420099 (doi:10.5281/zenodo.6420099).
A file that is there and matches its checksum is not fetched again; one that was cut short
goes on where it stopped; one that does not match is fetched anew, once, and refused then.
"""

import argparse
import json
import shutil
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORD = "6420099"
BASE_URL = "https://zenodo.org"
BLOCK_BYTES = 2**20
SECONDS = 60


@dataclass(frozen=True)
class Published:
    """A file of the record."""

    name: str
    """Its name."""
    url: str
    """Where it lies."""
    size: int
    """Bytes."""
    checksum: str
    """As "md5:..." or "sha256:..."."""


class FetchError(Exception):
    """What went wrong, in one line."""


def published(base_url: str, record: str) -> list[Published]:
    """Asks for the files of a record.

    Args:
        base_url: Zenodo, or a server that answers as it does.
        record: Number of the record.

    Returns:
        Its files.

    Raises:
        FetchError: If the server cannot be reached or answers something else.
    """
    url = f"{base_url}/api/records/{record}"
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            content: dict[str, Any] = json.load(answer)
        return [
            Published(
                Path(file["key"]).name, file["links"]["self"], int(file["size"]), file["checksum"]
            )
            for file in content["files"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FetchError(f"{url}: no list of files there ({error}); try again later") from error


def fetch(file: Published, folder: Path) -> Path:
    """Fetches one file, or finds it there; pooch compares checksums and names it in the end.

    Args:
        file: Which.
        folder: Where it shall lie.

    Returns:
        The file, whole.

    Raises:
        FetchError: If it cannot be fetched, or does not match its checksum.
    """
    pooch = _pooch()
    partial = folder / (file.name + ".part")

    def resume(_url: str, output: str, _pooch: None) -> None:
        have = partial.stat().st_size if partial.is_file() else 0
        if shutil.disk_usage(folder).free < file.size - have:
            size = f"{(file.size - have) / 1e9:.1f} GB"
            raise FetchError(f"{file.name} needs {size} in {folder}; make room, or use --to")
        go_on(file, partial)
        partial.replace(output)

    asked = {"known_hash": file.checksum, "fname": file.name, "path": folder}
    for _ in range(2):  # the first may go on from an old beginning of another file
        try:
            return Path(pooch.retrieve(file.url, downloader=resume, **asked))
        except ValueError as different:
            reason = different
    raise FetchError(
        f"{file.name}: what was fetched does not match {file.checksum}; try again later"
    ) from reason


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as absent:
        raise FetchError(
            "pooch is not installed, which fetches and checks files; install the extra: pip"
            " install -c constraints.txt '.[download]' (or: pip install pooch)"
        ) from absent
    pooch.get_logger().setLevel("WARNING")
    return pooch


def go_on(file: Published, partial: Path) -> None:
    """Appends what is missing; starts again if the server cannot go on."""
    have = partial.stat().st_size if partial.is_file() else 0
    if have == file.size:
        return
    request = urllib.request.Request(file.url)
    if 0 < have < file.size:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            resumed = answer.status == 206
            with partial.open("ab" if resumed else "wb") as out:
                done = have if resumed else 0
                while block := answer.read(BLOCK_BYTES):
                    out.write(block)
                    done += len(block)
                    show(file, done)
    except (OSError, urllib.error.HTTPError) as error:
        raise FetchError(f"{file.url}: {error}; say the same command again, it goes on") from error
    if partial.stat().st_size < file.size:
        raise FetchError(f"{file.name}: the connection ended early; say the same command again")


def show(file: Published, done: int) -> None:
    """Shows progress where someone looks."""
    if sys.stderr.isatty():
        end = "\n" if done >= file.size else ""
        text = f"\r{file.name}: {done / 1e6:.0f} of {file.size / 1e6:.0f} MB"
        print(text, end=end, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Fetches what was asked for; ends with 2 and one line if that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=Path("data"), help="folder (data)")
    parser.add_argument("--only", nargs="+", metavar="FILE", help="names of files (all)")
    parser.add_argument("--list", action="store_true", help="only tell what there is")
    parser.add_argument("--base-url", default=BASE_URL, help="another server, for tests")
    asked = parser.parse_args(arguments)
    try:
        files = published(asked.base_url, RECORD)
        names = [file.name for file in files]
        unknown = sorted(set(asked.only or ()) - set(names))
        if unknown:
            raise FetchError(f"--only {unknown[0]}: not in the record; it holds {', '.join(names)}")
        if not asked.list:
            asked.to.mkdir(parents=True, exist_ok=True)
        for file in files:
            if asked.only and file.name not in asked.only:
                continue
            where = "" if asked.list else f" -> {fetch(file, asked.to)}"
            print(f"{file.name:<40}{file.size / 1e6:>12.1f} MB  {file.checksum}{where}")
    except FetchError as failure:
        print(f"get_paper_data: {failure}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
