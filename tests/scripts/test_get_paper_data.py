"""The script that fetches the paper's data, against a server on this machine."""

import hashlib
import http.server
import importlib.util
import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/get_paper_data.py"
CONTENT = {
    "LSK.zip": np.random.default_rng(1).bytes(300_000),
    "LR.tar.gz": np.random.default_rng(2).bytes(70_000),
}


@pytest.fixture
def get_paper_data():
    pytest.importorskip("pooch", reason="the extra download is not installed")
    specification = importlib.util.spec_from_file_location("get_paper_data", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class Record(http.server.BaseHTTPRequestHandler):
    """Answers as the archive does: a list of files, and the files, also from the middle."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        name = self.path.split("/")[-2] if self.path.endswith("/content") else ""
        if not name:
            host = f"http://{self.headers['Host']}"
            files = [
                {
                    "key": key,
                    "size": len(content),
                    "checksum": self.server.checksums.get(key)
                    or "md5:" + hashlib.md5(content).hexdigest(),
                    "links": {"self": f"{host}/api/records/6420099/files/{key}/content"},
                }
                for key, content in CONTENT.items()
            ]
            self.answer(200, json.dumps({"files": files}).encode())
            return
        start = self.headers.get("Range")
        if start and self.server.resumes:
            self.answer(206, CONTENT[name][int(start[6:-1]) :])
        else:
            self.answer(200, CONTENT[name])

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.sent])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Record) as made:
        made.asked, made.checksums, made.resumes, made.sent = [], {}, True, None
        made.address = f"http://127.0.0.1:{made.server_address[1]}"
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


def ranges(server):
    return [wanted for path, wanted in server.asked if path.endswith("/content")]


def test_all_files_are_fetched_and_then_left_alone(get_paper_data, server, tmp_path):
    for _ in range(2):
        get_paper_data.main(["--to", str(tmp_path), "--base-url", server.address])
    for name, content in CONTENT.items():
        assert (tmp_path / name).read_bytes() == content
    assert ranges(server) == [None, None]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("resumes", [True, False])
def test_a_fetch_goes_on_where_it_stopped(get_paper_data, server, tmp_path, resumes):
    server.resumes = resumes
    (tmp_path / "LSK.zip.part").write_bytes(CONTENT["LSK.zip"][:123_456])
    get_paper_data.main(["--to", str(tmp_path), "--only", "LSK.zip", "--base-url", server.address])
    assert (tmp_path / "LSK.zip").read_bytes() == CONTENT["LSK.zip"]
    assert ranges(server) == ["bytes=123456-"]


def test_a_wrong_beginning_is_fetched_anew(get_paper_data, server, tmp_path):
    (tmp_path / "LSK.zip.part").write_bytes(bytes(1000))
    get_paper_data.main(["--to", str(tmp_path), "--only", "LSK.zip", "--base-url", server.address])
    assert (tmp_path / "LSK.zip").read_bytes() == CONTENT["LSK.zip"]
    assert ranges(server) == ["bytes=1000-", None]


def test_a_connection_that_ends_early_keeps_what_came(get_paper_data, server, tmp_path, capsys):
    server.sent = 50_000
    ask = ["--to", str(tmp_path), "--only", "LR.tar.gz", "--base-url", server.address]
    url = f"{server.address}/files/LR.tar.gz/content"
    file = get_paper_data.Published("LR.tar.gz", url, 70_000, "")
    with pytest.raises(get_paper_data.FetchError, match="say the same command again"):
        get_paper_data.go_on(file, tmp_path / "LR.tar.gz.part")
    assert (tmp_path / "LR.tar.gz.part").read_bytes() == CONTENT["LR.tar.gz"][:50_000]
    server.sent = None
    get_paper_data.main(ask)
    assert (tmp_path / "LR.tar.gz").read_bytes() == CONTENT["LR.tar.gz"]
    assert "LR.tar.gz" in capsys.readouterr().out


def test_what_does_not_match_its_checksum_is_refused(get_paper_data, server, tmp_path, capsys):
    server.checksums["LSK.zip"] = "md5:" + "0" * 32
    with pytest.raises(SystemExit) as end:
        get_paper_data.main(["--to", str(tmp_path), "--base-url", server.address])
    assert end.value.code == 2
    assert "LSK.zip: what was fetched does not match md5:000" in capsys.readouterr().err
    assert not (tmp_path / "LSK.zip").exists()


def test_a_file_that_was_changed_is_fetched_again(get_paper_data, server, tmp_path):
    (tmp_path / "LSK.zip").write_bytes(CONTENT["LSK.zip"][:-1] + b"?")
    get_paper_data.main(["--to", str(tmp_path), "--only", "LSK.zip", "--base-url", server.address])
    assert (tmp_path / "LSK.zip").read_bytes() == CONTENT["LSK.zip"]


def test_without_pooch_the_command_that_installs_it_is_named(
    get_paper_data, server, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(SystemExit) as end:
        get_paper_data.main(["--to", str(tmp_path), "--base-url", server.address])
    assert end.value.code == 2
    assert "pip install -c constraints.txt '.[download]'" in capsys.readouterr().err


def test_a_disk_without_room_is_said_before_anything_is_fetched(
    get_paper_data, server, tmp_path, capsys, monkeypatch
):
    usage = get_paper_data.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(get_paper_data.shutil, "disk_usage", lambda _: usage._replace(free=299_999))
    with pytest.raises(SystemExit):
        get_paper_data.main(["--to", str(tmp_path), "--base-url", server.address])
    assert "LSK.zip needs 0.0 GB" in capsys.readouterr().err
    assert ranges(server) == []


def test_unknown_files_and_absent_servers_are_said_in_a_line(
    get_paper_data, server, tmp_path, capsys
):
    for ask, said in (
        (["--only", "HR.zip", "--base-url", server.address], "it holds LSK.zip, LR.tar.gz"),
        (["--base-url", "http://127.0.0.1:9"], "no list of files there"),
    ):
        with pytest.raises(SystemExit) as end:
            get_paper_data.main(["--to", str(tmp_path), *ask])
        assert end.value.code == 2
        assert said in capsys.readouterr().err


def test_a_list_fetches_nothing(get_paper_data, server, tmp_path, capsys):
    get_paper_data.main(["--list", "--to", str(tmp_path / "no"), "--base-url", server.address])
    assert "LR.tar.gz" in capsys.readouterr().out
    assert not (tmp_path / "no").exists()
