"""The live page as a browser shows it: headless Chromium, driven through its own debugging protocol."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import time

import cv2
import pytest

from edge_runtime.results import SourceState
from edge_runtime.workstation.datasets.smileys import iter_smileys
from support.web import TOKEN, WebCamera

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no program chromium to show the page in"),
]
DEADLINE_S = 60.0
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


class FaceCamera(WebCamera):
    """Shows drawn faces at 15 frames a second, half a second each."""

    def __init__(self, labels=("happy", "sad"), port=0, token=None):
        super().__init__(labels=labels, port=port, token=token, fps=15)
        faces = [(label, cv2.resize(image, (640, 480))) for label, _, image in iter_smileys(4, 7)]
        self._faces = [(labels[label == "sad"], image) for label, image in faces]
        self.state = self._shown = SourceState.CONNECTED
        self.run()

    def step(self):
        if self.state is not self._shown:
            self.change(self.state, "unplugged")
            self._shown = self.state
        if self.state is SourceState.CONNECTED:
            label, image = self._faces[self.number // 8 % len(self._faces)]
            self.answer(image, label=label, score=0.8, event=self.number % 8 == 0)


@pytest.fixture
def options():
    """Parameters of the camera; a test may give others."""
    return {}


@pytest.fixture
def camera(stack, options):
    return stack.enter_context(contextlib.closing(FaceCamera(**options)))


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


@pytest.fixture
def tab(tmp_path):
    import aiohttp

    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
    command = ["chromium", *arguments, f"--user-data-dir={tmp_path}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    loop = asyncio.new_event_loop()

    async def connect(port):
        session = aiohttp.ClientSession()
        async with session.get(f"http://127.0.0.1:{port}/json") as answer:
            url = next(page["webSocketDebuggerUrl"] for page in await answer.json() if page["type"] == "page")
        return session, await session.ws_connect(url, max_msg_size=1 << 25)

    try:
        session, socket = loop.run_until_complete(connect(_debugging_port(tmp_path, browser)))
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


IMAGE = "document.getElementById('image')"


def test_labels_figures_and_image_appear_and_change_without_a_complaint(camera, tab):
    tab.open(camera.sink.url)
    tab.until(f"{IMAGE}.complete && {IMAGE}.naturalWidth === 640 && !{IMAGE}.hidden")
    tab.until("parseFloat(document.getElementById('fps').innerText) > 3")
    shown = tab.value("[...document.querySelectorAll('.bars .label')].map(e => e.innerText).join()")
    assert sorted(shown.split(",")) == ["happy", "sad"]
    assert tab.text("name") == "Feeder"
    assert tab.text("state") == "connected"
    assert tab.text("banner") == ""
    assert tab.text("invoke") == "20.0 ms"
    answered, image, alt = (tab.text("answered"), tab.value(f"{IMAGE}.src"), tab.value(f"{IMAGE}.alt"))
    assert alt in ("Live image: happy", "Live image: sad")
    tab.until(f"document.getElementById('answered').innerText !== '{answered}'")
    tab.until(f"{IMAGE}.src !== '{image}'")
    tab.until(f"{IMAGE}.alt !== '{alt}'")
    tab.until("document.querySelectorAll('#events li').length > 3")
    assert tab.value("document.documentElement.scrollWidth <= innerWidth")
    tab.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    assert tab.value("document.documentElement.scrollWidth") == 390
    assert tab.complaints == []


def test_a_camera_that_stalls_is_said_and_so_is_its_return(camera, tab):
    tab.open(camera.sink.url)
    tab.until("document.getElementById('state').innerText === 'connected'")
    camera.state = SourceState.STALLED
    tab.until("document.getElementById('banner').innerText.includes('no images: unplugged')")
    assert tab.value("document.body.classList.contains('stale')")
    camera.state = SourceState.CONNECTED
    tab.until("document.getElementById('banner').hidden && !document.body.classList.contains('stale')")


def test_the_page_says_that_the_device_is_gone_and_finds_it_again(camera, tab):
    tab.open(camera.sink.url)
    tab.until(f"{IMAGE}.naturalWidth === 640")
    camera.close()
    tab.until("document.getElementById('banner').innerText.includes('No connection to the device')")
    assert tab.text("state") == "offline"
    with contextlib.closing(FaceCamera(port=camera.port)):
        tab.until("document.getElementById('state').innerText === 'connected'")
        before = tab.value(f"{IMAGE}.src")
        tab.until(f"{IMAGE}.src !== '{before}'")


@pytest.mark.parametrize("options", [{"labels": (HOSTILE, "<script>document.title='owned'</script>")}], ids=["hostile"])
def test_a_label_is_text_whatever_it_says(camera, tab):
    tab.open(camera.sink.url)
    tab.until("document.querySelectorAll('#events li').length > 3")
    assert tab.value("document.querySelector('.bars .label').innerText") == HOSTILE
    assert tab.value("document.title") == "Feeder – edgekit"
    assert tab.value("document.querySelectorAll('main script, main img:not(#image)').length") == 0
    assert tab.complaints == []


@pytest.mark.parametrize("options", [{"token": TOKEN}], ids=["token"])
def test_the_token_opens_the_page_and_leaves_the_address(camera, tab):
    tab.open(camera.sink.url)
    tab.until("document.body.innerText.includes('needs its token')")
    tab.open(f"{camera.sink.url}?token={TOKEN}")
    tab.until(f"document.getElementById('state') && {IMAGE}.naturalWidth === 640")
    assert tab.value("location.href") == camera.sink.url
    assert tab.value("document.cookie") == ""
