"""The plugin that searches for leaked secrets finds them."""

from base64 import b64encode

from secrets_watch import Watch


def test_leaks_are_found_and_masked() -> None:
    watch = Watch()
    watch.search("log", "x" * 100_000 + "fake-token" + "x" * 100_000)
    assert watch.take_leaks() == ["log: xxx…"]
    for before in ("", "u", "us", "user:"):
        watch.search("header", "Basic " + b64encode(f"{before}fake-password!".encode()).decode())
        assert len(watch.take_leaks()) == 1
    watch.search("log", "a fake token, FakeTokens, fake_token and <secret>")
    assert watch.take_leaks() == []
