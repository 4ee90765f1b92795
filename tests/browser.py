"""A headless Chromium for tests, driven over its debugging pipe: no driver, no package, no port."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

OPTIONS = (
    "--headless", "--no-sandbox", "--remote-debugging-pipe", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-gpu", "--disable-dev-shm-usage",
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
)  # fmt: skip
CODES = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39,
         "Delete": 46}  # fmt: skip


def binary() -> str | None:
    """Chromium or Chrome, where one is installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One tab. `requests` collects the URLs that it and its workers ask for."""

    def __init__(self, folder: Path) -> None:
        """folder: a new one for the profile and for `downloads`."""
        self.downloads, self.requests, self.faults = folder / "downloads", [], []
        self.downloads.mkdir(parents=True)
        (theirs, self._out), (self._in, answers) = os.pipe(), os.pipe()
        high = [fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (theirs, answers)]

        def place() -> None:  # where Chromium wants its pipes
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            [str(binary()), *OPTIONS, f"--user-data-dir={folder / 'profile'}"], preexec_fn=place,
            pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for one in (theirs, answers, *high):
            os.close(one)
        self._buffer, self._count, self._session = b"", 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM"):
            self.call(f"{domain}.enable")
        attach = {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True}
        self.call("Target.setAutoAttach", **attach)
        place_of = {"behavior": "allow", "downloadPath": str(self.downloads)}
        self.call("Page.setDownloadBehavior", **place_of)

    def call(self, method: str, timeout: float = 120, **params: object) -> dict:
        """A command of the DevTools protocol; AssertionError for its errors."""
        wanted = self._send(method, self._session, params)
        end = time.monotonic() + timeout
        while True:
            answer = self._next(end)
            if answer.get("id") == wanted:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _send(self, method: str, session: str | None, params: dict) -> int:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        return self._count

    def _next(self, end: float) -> dict:
        while b"\0" not in self._buffer:
            left = end - time.monotonic()
            assert left > 0 and select.select([self._in], [], [], left)[0], "Chromium does not answer"
            piece = os.read(self._in, 1 << 20)
            assert piece, "Chromium ended"
            self._buffer += piece
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(raw)
        method, params = message.get("method"), message.get("params", {})
        if method == "Target.attachedToTarget":  # a worker
            self._send("Network.enable", params["sessionId"], {})
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.faults.append(params["exceptionDetails"]["text"])
        return message

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def run(self, script: str, timeout: float = 120) -> object:
        """The value of an expression, awaited; AssertionError if it throws."""
        how = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", timeout, expression=script, **how)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, timeout: float = 120) -> None:
        """Until an expression is true."""
        end = time.monotonic() + timeout
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never: {condition}"
            time.sleep(0.05)

    def choose(self, selector: str, *paths: Path) -> None:
        """Files in a file input, as a user chooses them."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def press(self, key: str) -> None:
        told = {"key": key, "code": key, "windowsVirtualKeyCode": CODES.get(key, 0)}
        if key == "Enter":  # only with its letter does it send a form
            self.call("Input.dispatchKeyEvent", type="keyDown", text="\r", **told)
        else:
            self.call("Input.dispatchKeyEvent", type="rawKeyDown", **told)
        self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({selector!r}).click()")

    def downloaded(self, timeout: float = 60) -> bytes:
        """The file that comes next, which is taken away."""
        end = time.monotonic() + timeout
        while True:
            whole = [path for path in self.downloads.iterdir() if path.suffix != ".crdownload"]
            if whole and whole[0].stat().st_size:
                content = whole[0].read_bytes()
                whole[0].unlink()
                return content
            assert time.monotonic() < end, "nothing was downloaded"
            time.sleep(0.05)

    def resize(self, width: int, height: int, phone: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=phone)  # fmt: skip

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        try:
            self._session = None
            self._send("Browser.close", None, {})
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._in)
            os.close(self._out)
