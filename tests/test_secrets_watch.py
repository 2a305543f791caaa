"""The plugin that searches for leaked secrets finds them."""

from base64 import b64encode

from secrets_watch import Watch


def test_leaks_are_found() -> None:
    watch = Watch()
    watch.search("log", "a fake-token")
    assert watch.take_leaks() == ["log: a fake-token"]
    for before in ("", "u", "us", "user:"):
        watch.search("header", "Basic " + b64encode(f"{before}fake-password!".encode()).decode())
        assert len(watch.take_leaks()) == 1
    watch.search("log", "a fake token, FakeTokens, fake_token and <secret>")
    assert watch.take_leaks() == []
