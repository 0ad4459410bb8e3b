"""A headless Chromium, driven through the DevTools protocol over two pipes: no library and no port.

Run by hand, it takes pictures of a page:  browser.py PAGE.html OUT_PREFIX [WIDTH …]
"""
import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome")

# Elements that reach past the viewport, other than inside a frame that scrolls by itself; text that is wider than its box.
OVERFLOWING = """(() => {
  const width = document.documentElement.clientWidth, found = [];
  if (document.scrollingElement.scrollWidth > width) found.push('the page is ' + document.scrollingElement.scrollWidth + ' wide');
  for (const e of document.body.querySelectorAll('*')) {
    if (e.closest('.symbols')) continue;
    const frame = e.parentElement.closest('.scroll');
    const box = e.getBoundingClientRect();
    if (!frame && box.width > 0 && (box.right > width + 0.5 || box.left < -0.5)) found.push(e.tagName + '.' + e.getAttribute('class') + ' ends at ' + box.right);
  }
  return found;
})()"""


# Labels of pictures that are cut off at the edges.
CUT = """[...document.querySelectorAll('figure svg text')].filter(t => {
  const box = t.getBoundingClientRect(), frame = t.closest('svg').getBoundingClientRect();
  return box.width > 0 && (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
}).map(t => t.textContent)"""


def program():
    """The path of the browser; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page in one browser. Events come into self.events as (method, parameters)."""

    def __init__(self, timeout=60):
        self.timeout = timeout
        self.profile = tempfile.mkdtemp(prefix="psann_browser_")
        self.events, self.buffer, self.number = [], b"", 0
        to_browser, self.write_end = os.pipe()
        self.read_end, from_browser = os.pipe()

        def take_pipes():  # the protocol's are 3 and 4
            a, b = os.dup(to_browser), os.dup(from_browser)
            os.dup2(a, 3)
            os.dup2(b, 4)

        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
                   "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", f"--user-data-dir={self.profile}",
                   "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen([program(), *options], preexec_fn=take_pipes, close_fds=False, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(to_browser)
        os.close(from_browser)
        self.session = None
        pages = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        self.session = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def message(self, limit):
        while b"\0" not in self.buffer:
            left = limit - time.monotonic()
            if left <= 0 or not select.select([self.read_end], [], [], left)[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self.read_end, 1 << 20)
            if not data:
                raise EOFError("the browser has ended")
            self.buffer += data
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        command = {"id": self.number, "method": method, "params": parameters}
        if self.session is not None:
            command["sessionId"] = self.session
        data = json.dumps(command).encode() + b"\0"
        while data:
            data = data[os.write(self.write_end, data):]
        limit = time.monotonic() + self.timeout
        while True:
            answer = self.message(limit)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            if "method" in answer:
                self.events.append((answer["method"], answer["params"]))

    def open(self, path, width, dark=False):
        """Loads a file into a window of that width; self.events has what happened since."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.events = []
        self.call("Page.navigate", url=pathlib.Path(path).resolve().as_uri())
        limit = time.monotonic() + self.timeout
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            event = self.message(limit)
            if "method" in event:
                self.events.append((event["method"], event["params"]))

    def evaluate(self, expression):
        """The value of a script, which the page's own policy does not bind."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return answer["result"].get("value")

    def picture(self, path):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))

    def close(self):
        os.close(self.write_end)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.read_end)
        shutil.rmtree(self.profile, ignore_errors=True)


if __name__ == "__main__":
    page, prefix = sys.argv[1:3]
    browser = Browser()
    for width in map(int, sys.argv[3:] or (360, 1400)):
        for dark in (False, True):
            browser.open(page, width, dark)
            browser.picture(f"{prefix}_{width}{'_dark' if dark else ''}.png")
        print(width, browser.evaluate(OVERFLOWING))
    browser.close()
