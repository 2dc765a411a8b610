"""The live page as a browser shows it."""

import contextlib

import cv2
import pytest

from edge_runtime.results import SourceState
from edge_runtime.workstation.datasets.smileys import iter_smileys
from support.browser import open_tab
from support.web import TOKEN, WebCamera

pytestmark = pytest.mark.slow
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


@pytest.fixture
def tab(tmp_path):
    with open_tab(tmp_path) as opened:
        yield opened


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
