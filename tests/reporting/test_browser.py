"""The report, opened in a real browser without a screen."""

import base64
import hashlib
import re
import shutil
import subprocess

import pytest

from sem2ct.reporting import record, report

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--enable-logging=stderr",
]
CHECK = """
window.addEventListener("load", () => {
  const images = [...document.querySelectorAll("main img")];
  const facts = document.documentElement.dataset;
  facts.images = images.length;
  facts.broken = images.filter((image) => !image.complete || image.naturalWidth === 0).length;
  images[0].click();
  facts.opened = document.querySelector("dialog").open;
  const key = new KeyboardEvent("keydown", {key: "ArrowLeft"});
  document.querySelector("dialog").dispatchEvent(key);
  facts.last = document.querySelector("dialog img").alt === images.at(-1).alt;
  document.querySelector("dialog img").click();
  facts.actual = document.querySelector("dialog").classList.contains("actual");
  facts.wide = document.documentElement.scrollWidth > window.innerWidth;
});
"""
needs_browser = pytest.mark.skipif(not BROWSER, reason="no chromium or chrome on this machine")


def opened(page, tmp_path, *more):
    """What the browser prints, and what it complained about."""
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [BROWSER, *FLAGS, profile, *more, page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@needs_browser
def test_a_browser_shows_every_image_runs_the_script_and_has_nothing_to_complain(drawn, tmp_path):
    text = (drawn / report.REPORT).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(CHECK.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src 'sha256-{digest}' ")
    text = text.replace("</body>", f"<script>{CHECK}</script></body>")
    page = tmp_path / "checked.html"
    page.write_text(text, encoding="utf-8")
    dom, complaints = opened(page, tmp_path, "--window-size=1300,900", "--dump-dom")
    assert complaints == []
    facts = dict(re.findall(r'data-(\w+)="(\w+)"', dom[: dom.index("<head>")]))
    assert facts.pop("ready") == facts["images"]
    assert int(facts.pop("images")) == text.count('src="data:image/png')
    assert facts == {
        "broken": "0", "opened": "true", "last": "true", "actual": "true", "wide": "false",
    }  # fmt: skip


@needs_browser
def test_a_planted_script_stays_words_and_the_page_prints(tmp_path, write_run):
    evil = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"
    folder = write_run(tmp_path, ["real", evil], [])
    metrics = record.read_metrics(folder)
    record.write_metrics(folder, metrics | {"cautions": [evil]})
    page = report.write(folder)
    dom, complaints = opened(page, tmp_path, "--dump-dom")
    assert complaints == []
    assert "<title>sem2ct evaluation: a &lt;run&gt;</title>" in dom
    opened(page, tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'page.pdf'}")
    printed = (tmp_path / "page.pdf").read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 2
