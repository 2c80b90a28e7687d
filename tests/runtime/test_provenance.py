import subprocess
from pathlib import Path

from sem2ct.runtime import provenance


def test_git_is_asked_without_a_lock_that_a_killed_run_would_leave(monkeypatch, tmp_path):
    """In a checkout of its own, whose index looks older than its files."""
    package = tmp_path / "src"
    package.mkdir()
    file = package / "provenance.py"
    file.write_text("1\n")

    def git(*what):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        told = subprocess.run(
            ["git", "-C", tmp_path, *who, *what], check=True, capture_output=True, text=True
        )
        return told.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "One")
    file.write_text("1\n")
    index = Path(tmp_path, ".git", "index")
    before = index.stat().st_mtime_ns
    monkeypatch.setattr(provenance, "__file__", str(file))
    assert provenance.record([])["commit"] == git("rev-parse", "HEAD")
    assert index.stat().st_mtime_ns == before
    file.write_text("2\n")
    assert provenance.record([])["commit"] == git("rev-parse", "HEAD") + "+changes"
    git("rm", "-q", "--cached", str(file))
    assert provenance.record([])["commit"] == "none"
