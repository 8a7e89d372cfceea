import urllib.error
import urllib.request

import pytest


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test of a builder may reach the network, whether there is one or not."""

    def refuse(opener, request, *args, **options):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
