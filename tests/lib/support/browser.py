"""Headless Chromium, driven through its own debugging protocol."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import time

import pytest

DEADLINE_S = 60.0


class Tab:
    """One page of a browser, driven through a WebSocket of its debugging protocol."""

    def __init__(self, loop, socket):
        self._loop, self._socket, self._last, self.complaints = loop, socket, 0, []

    def call(self, method, **parameters):
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, parameters), DEADLINE_S))

    async def _call(self, method, parameters):
        self._last += 1
        await self._socket.send_json({"id": self._last, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive()).data)
            if message.get("id") == self._last:
                return message["result"]
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                self.complaints.append(message["params"])

    def open(self, url):
        for method in ("Page.enable", "Runtime.enable", "Log.enable"):
            self.call(method)
        self.call("Page.navigate", url=url)

    def value(self, expression):
        return self.call("Runtime.evaluate", expression=expression, awaitPromise=True)["result"].get("value")

    def text(self, name):
        return self.value(f"document.getElementById('{name}')?.innerText ?? ''")

    def until(self, expression):
        """Wait until a JavaScript expression is true, and give its value."""
        end_s = time.monotonic() + DEADLINE_S
        while not (found := self.value(expression)):
            body = self.value("document.body?.innerText")
            assert time.monotonic() < end_s, f"never true: {expression}\n{body}\n{self.complaints}"
            time.sleep(0.1)
        return found


@contextlib.contextmanager
def open_tab(folder):
    """Start headless Chromium with a folder as its profile, and yield its tab; skip the test where there is none."""
    if shutil.which("chromium") is None:
        pytest.skip("no program chromium to show the page in")
    import aiohttp

    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
    command = ["chromium", *arguments, f"--user-data-dir={folder}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    loop = asyncio.new_event_loop()

    async def connect(port):
        session = aiohttp.ClientSession()
        async with session.get(f"http://127.0.0.1:{port}/json") as answer:
            url = next(page["webSocketDebuggerUrl"] for page in await answer.json() if page["type"] == "page")
        return session, await session.ws_connect(url, max_msg_size=1 << 25)

    try:
        session, socket = loop.run_until_complete(connect(_debugging_port(folder, browser)))
        yield Tab(loop, socket)
        loop.run_until_complete(session.close())
    finally:
        browser.terminate()
        browser.wait(30)
        loop.close()


def _debugging_port(folder, browser):
    end_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < end_s and browser.poll() is None:
        written = folder / "DevToolsActivePort"
        lines = written.read_text().split() if written.exists() else []
        if len(lines) > 1:
            return int(lines[0])
        time.sleep(0.1)
    pytest.skip("chromium does not start headless here")
