import contextlib
import hashlib
import http.server
import re
import threading
import urllib.request

import numpy as np
import pytest

from segjax.datasets.downloads import BLOCK_BYTES, Download, ManualDownload, https_only
from segjax.errors import InputError

CONTENT = np.random.default_rng(0).bytes(3 * BLOCK_BYTES + 17)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, as the attributes of its server say."""

    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere)
            self.end_headers()
            return
        start = 0
        if self.server.ranges and (span := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            start = int(span[1])
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            shown = start + self.server.shift
            self.send_header("Content-Range", f"bytes {shown}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if self.server.says_length:
            self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who has read enough hangs up
            self.wfile.write(CONTENT[start : self.server.breaks_after])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.asked, made.ranges, made.shift, made.says_length, made.breaks_after = [], True, 0, True, None
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def of(server, *, path="/file.zip", sha256=SHA256, max_bytes=2**24):
    return Download(f"http://127.0.0.1:{server.server_port}{path}", "set/file.zip", max_bytes, sha256)


def obtain(download, folder):
    """With an opener that knows http, as none outside the tests does."""
    return download.obtain(folder, opener=urllib.request.build_opener(urllib.request.ProxyHandler({})))


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_file_is_downloaded_once(tmp_path, server):
    obtained = obtain(of(server), tmp_path)
    assert obtained == tmp_path / "set" / "file.zip"
    assert obtained.read_bytes() == CONTENT
    assert files_in(tmp_path) == ["set/file.zip"]
    assert obtain(of(server), tmp_path) == obtained
    assert server.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped_if_the_server_can(tmp_path, server, ranges):
    server.breaks_after, server.ranges = BLOCK_BYTES + 5, ranges
    with pytest.raises(
        InputError, match=rf"ended after {BLOCK_BYTES + 5} of {len(CONTENT)} bytes\); run again"
    ):
        obtain(of(server), tmp_path)
    assert files_in(tmp_path) == ["set/file.zip.part"]
    server.breaks_after = None
    assert obtain(of(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={BLOCK_BYTES + 5}-"]


def test_a_part_that_is_too_long_is_thrown_away(tmp_path, server):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file.zip.part").write_bytes(CONTENT + b"x")
    assert obtain(of(server), tmp_path).read_bytes() == CONTENT


def test_another_range_than_asked_for_is_not_appended(tmp_path, server):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file.zip.part").write_bytes(CONTENT[:10])
    server.shift = 5
    with pytest.raises(InputError, match="from byte 15, not 10"):
        obtain(of(server), tmp_path)
    assert (tmp_path / "set" / "file.zip.part").read_bytes() == CONTENT[:10]


def test_other_contents_are_refused_and_not_kept(tmp_path, server):
    with pytest.raises(InputError, match=f"it has the sha256 {SHA256}, not 0000"):
        obtain(of(server, sha256="0" * 64), tmp_path)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_that_is_too_long_is_refused(tmp_path, server, says_length):
    server.says_length = says_length
    with pytest.raises(InputError, match=rf"it has .*more than {BLOCK_BYTES}"):
        obtain(of(server, max_bytes=BLOCK_BYTES), tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.part")) == 0


def test_an_error_of_the_server_says_what_to_put_where(tmp_path, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError) as caught:
        obtain(of(server), tmp_path)
    said = str(caught.value)
    assert "refused" in said
    assert said.endswith(
        "run again to resume, or get it yourself and put file.zip, or its unpacked folder file, into"
        f" {tmp_path}/manual/set"
    )


def test_nothing_but_https_is_opened_however_it_is_asked_for(tmp_path, server):
    with pytest.raises(InputError, match="unknown url type: http"):
        of(server).obtain(tmp_path)
    assert server.asked == []
    opener = https_only()
    opener.add_handler(urllib.request.HTTPHandler())  # for the first step alone
    for elsewhere in ("file:///etc/hostname", "ftp://127.0.0.1/file"):
        server.elsewhere = elsewhere
        with pytest.raises(InputError, match="could not be downloaded"):
            of(server, path="/elsewhere").obtain(tmp_path, opener=opener)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("name", ["file.zip", "file/inside"])
def test_what_was_put_by_hand_comes_first(tmp_path, server, name):
    by_hand = tmp_path / "manual" / "set" / name
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(b"mine")
    expected = tmp_path / "manual" / "set" / name.split("/")[0]
    assert obtain(of(server), tmp_path) == expected
    assert ManualDownload("set/file.zip", "page", "any").obtain(tmp_path) == expected
    assert server.asked == []


def test_what_is_not_downloaded_names_its_licence(tmp_path):
    with pytest.raises(InputError) as caught:
        ManualDownload("livecell/val.json", "https://example.org", "CC BY-NC 4.0").obtain(tmp_path)
    assert str(caught.value) == (
        "segjax does not download val.json, whose licence is CC BY-NC 4.0: if you agree to it, get it from"
        f" https://example.org and put val.json into {tmp_path}/manual/livecell"
    )
