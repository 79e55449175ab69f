"""Opening a page from disk in a real browser, for tests; what it must not do is a failure."""

import contextlib

TIMEOUT = 15_000  # ms: what takes a tenth of a second, on a machine that does much else


@contextlib.contextmanager
def watched_pages(browser, ready, inline="data:"):
    """Yield a function that opens a page and waits until it is ready.

    At the end all are closed; a page that asked for anything but itself, showed a dialog or failed fails the test.

    Args:
        browser: Chromium.
        ready: Selector of what is there once the page's scripts have run.
        inline: How addresses begin that a page may make for itself.
    """
    contexts, problems, requests, opened = [], [], [], set()

    def open_page(address, fragment="", **options):
        opened.add(address)
        contexts.append(browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        page.goto(address + fragment)
        page.wait_for_selector(ready, state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
    assert {url.partition("#")[0] for url in requests if not url.startswith(inline)} <= opened
