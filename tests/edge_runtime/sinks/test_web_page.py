"""The live page as a browser shows it: headless Chromium, driven through its own debugging protocol."""

import asyncio
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
def camera():
    made = FaceCamera()
    yield made
    made.close()


class Tab:
    """One page of a browser."""

    def __init__(self, socket):
        self._socket, self._last, self.complaints = socket, 0, []

    async def call(self, method, **parameters):
        self._last += 1
        await self._socket.send_json({"id": self._last, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive()).data)
            if message.get("id") == self._last:
                return message["result"]
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                self.complaints.append(message["params"])

    async def open(self, url):
        for method in ("Page.enable", "Runtime.enable", "Log.enable"):
            await self.call(method)
        await self.call("Page.navigate", url=url)

    async def value(self, expression):
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True)
        return answer["result"].get("value")

    async def text(self, name):
        return await self.value(f"document.getElementById('{name}')?.innerText ?? ''")

    async def until(self, expression):
        """Wait until a JavaScript expression is true, and give its value."""
        end_s = time.monotonic() + DEADLINE_S
        while not (found := await self.value(expression)):
            body = await self.value("document.body?.innerText")
            assert time.monotonic() < end_s, f"never true: {expression}\n{body}\n{self.complaints}"
            await asyncio.sleep(0.1)
        return found


@pytest.fixture
def browse(tmp_path):
    """Run an async function with a `Tab`."""
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
    command = ["chromium", *arguments, f"--user-data-dir={tmp_path}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    async def run(steps):
        import aiohttp

        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                pages = [page for page in await answer.json() if page["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=1 << 25) as socket:
                await asyncio.wait_for(steps(Tab(socket)), 4 * DEADLINE_S)

    try:
        port = _debugging_port(tmp_path, browser)
        yield lambda steps: asyncio.run(run(steps))
    finally:
        browser.terminate()
        browser.wait(30)


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


def test_labels_figures_and_image_appear_and_change_without_a_complaint(camera, browse):
    async def steps(tab):
        await tab.open(camera.sink.url)
        await tab.until(f"{IMAGE}.complete && {IMAGE}.naturalWidth === 640 && !{IMAGE}.hidden")
        await tab.until("parseFloat(document.getElementById('fps').innerText) > 3")
        assert sorted(
            await tab.value("[...document.querySelectorAll('.bars .label')].map(e => e.innerText).join()")
        ) == (sorted("happy,sad"))
        assert await tab.text("name") == "Feeder"
        assert await tab.text("state") == "connected"
        assert await tab.text("banner") == ""
        assert await tab.text("invoke") == "20.0 ms"
        answered, image, alt = (
            await tab.text("answered"),
            await tab.value(f"{IMAGE}.src"),
            await tab.value(f"{IMAGE}.alt"),
        )
        assert alt in ("Live image: happy", "Live image: sad")
        await tab.until(f"document.getElementById('answered').innerText !== '{answered}'")
        await tab.until(f"{IMAGE}.src !== '{image}'")
        await tab.until(f"{IMAGE}.alt !== '{alt}'")
        await tab.until("document.querySelectorAll('#events li').length > 3")
        assert await tab.value("document.documentElement.scrollWidth <= innerWidth")
        await tab.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
        assert await tab.value("document.documentElement.scrollWidth") == 390
        assert tab.complaints == []

    browse(steps)


def test_a_camera_that_stalls_is_said_and_so_is_its_return(camera, browse):
    async def steps(tab):
        await tab.open(camera.sink.url)
        await tab.until("document.getElementById('state').innerText === 'connected'")
        camera.state = SourceState.STALLED
        await tab.until("document.getElementById('banner').innerText.includes('no images: unplugged')")
        assert await tab.value("document.body.classList.contains('stale')")
        camera.state = SourceState.CONNECTED
        await tab.until("document.getElementById('banner').hidden && !document.body.classList.contains('stale')")

    browse(steps)


def test_the_page_says_that_the_device_is_gone_and_finds_it_again(camera, browse):
    async def steps(tab):
        await tab.open(camera.sink.url)
        await tab.until(f"{IMAGE}.naturalWidth === 640")
        camera.close()
        await tab.until("document.getElementById('banner').innerText.includes('No connection to the device')")
        assert await tab.text("state") == "offline"
        again = FaceCamera(port=camera.port)
        try:
            await tab.until("document.getElementById('state').innerText === 'connected'")
            before = await tab.value(f"{IMAGE}.src")
            await tab.until(f"{IMAGE}.src !== '{before}'")
        finally:
            again.close()

    browse(steps)


def test_a_label_is_text_whatever_it_says(browse):
    camera = FaceCamera(labels=(HOSTILE, "<script>document.title='owned'</script>"))

    async def steps(tab):
        await tab.open(camera.sink.url)
        await tab.until("document.querySelectorAll('#events li').length > 3")
        assert await tab.value("document.querySelector('.bars .label').innerText") == HOSTILE
        assert await tab.value("document.title") == "Feeder – edgekit"
        assert await tab.value("document.querySelectorAll('main script, main img:not(#image)').length") == 0
        assert tab.complaints == []

    try:
        browse(steps)
    finally:
        camera.close()


def test_the_token_opens_the_page_and_leaves_the_address(browse):
    camera = FaceCamera(token=TOKEN)

    async def steps(tab):
        await tab.open(camera.sink.url)
        await tab.until("document.body.innerText.includes('needs its token')")
        await tab.open(f"{camera.sink.url}?token={TOKEN}")
        await tab.until(f"document.getElementById('state') && {IMAGE}.naturalWidth === 640")
        assert await tab.value("location.href") == camera.sink.url
        assert await tab.value("document.cookie") == ""

    try:
        browse(steps)
    finally:
        camera.close()
