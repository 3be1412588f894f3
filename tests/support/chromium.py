"""Chromium, driven over its debugging pipe (Chrome DevTools Protocol) with nothing but the standard library."""

import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


class PageError(Exception):
    """The page did something that a test doesn't expect of it."""


class Page:
    """One tab. What its console says is kept in `console`, answers' statuses in `statuses`."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests = requests
        self._answers = answers
        self._buffer = b""
        self._serial = 0
        self._session = ""
        self._loaded = False
        self.console: list[str] = []
        self.statuses: list[tuple[str, int]] = []

    def open_tab(self) -> None:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def go(self, url: str) -> None:
        """Opens an address and waits until it has loaded."""
        self._loaded = False
        self._call("Page.navigate", url=url)
        self._wait_for_load()

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression on the page."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise PageError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def await_value(self, script: str) -> Any:
        """The value of the promise that a JavaScript expression gives."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise PageError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def violations(self, axe: str) -> list[str]:
        """What axe, a script that defines it, finds wrong with the page: the rule, and where."""
        if self.run("typeof axe") == "undefined":
            self.run(f"{axe};0")
        found = self.await_value(
            """axe.run({rules: {"target-size": {enabled: true}}}).then(result => result.violations.map(
                 rule => rule.id + ": " + rule.nodes.slice(0, 3).map(node => node.html).join(" ")))"""
        )
        return [str(one) for one in found]

    def run_and_load(self, script: str) -> None:
        """Runs a script that leads to another page, and waits for that."""
        self._loaded = False
        self.run(script)
        self._wait_for_load()

    def fill(self, name: str, value: str) -> None:
        """Types into a field of the form as a person does."""
        self.run(f"document.getElementById({json.dumps(name)}).select()")
        self._call("Input.insertText", text=value)

    def press(self, selector: str) -> None:
        """Activates a link or button and waits for the next page."""
        self.run_and_load(f"document.querySelector({json.dumps(selector)}).click()")

    def click(self, text: str) -> None:
        """Activates the first link or button with this text that can be seen, and waits for the next page."""
        self.run_and_load(
            f"""(() => {{
              const wanted = {json.dumps(text)};
              const found = [...document.querySelectorAll("a, button, summary")].find(
                one => one.innerText.trim().split(/[^!-~]+/).join(" ") === wanted && one.offsetParent !== null);
              if (!found) throw new Error("there is no link or button " + wanted);
              found.click();
            }})()"""
        )

    def wait_for(self, text: str, seconds: int = 20) -> None:
        """Waits until the page, as it changes by itself, shows a text. Raises PageError if it doesn't."""
        shown = self.await_value(
            f"""new Promise(done => {{
              const wanted = {json.dumps(text)}, shows = () => document.body.innerText.includes(wanted);
              if (shows()) return done(true);
              const watch = new MutationObserver(() => shows() && done(true));
              watch.observe(document.body, {{childList: true, subtree: true, characterData: true}});
              setTimeout(() => done(false), {seconds * 1000});
            }})"""
        )
        if not shown:
            raise PageError(f"the page does not show {text!r}")

    @property
    def text(self) -> str:
        return str(self.run("document.body.innerText"))

    @property
    def url(self) -> str:
        return str(self.run("location.href"))

    def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """The whole page as a PNG, or what is in view."""
        wanted: dict[str, Any] = {}
        if whole:
            size = self._call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
            wanted = {"captureBeyondViewport": True, "clip": clip}
        shot = self._call("Page.captureScreenshot", format="png", **wanted)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _wait_for_load(self) -> None:
        while not self._loaded:
            self._note(self._receive())

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._serial += 1
        message: dict[str, Any] = {"id": self._serial, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._serial:
                if "error" in answer:
                    raise PageError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._answers, 1 << 20)
            if not chunk:
                raise PageError("Chromium has closed")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.consoleAPICalled":
                self.console.append(json.dumps(parameters["args"]))
            case "Runtime.exceptionThrown":
                self.console.append(json.dumps(parameters["exceptionDetails"]))
            case "Log.entryAdded":
                self.console.append(str(parameters["entry"]["text"]))
            case "Network.responseReceived":
                self.statuses.append((parameters["response"]["url"], parameters["response"]["status"]))


@contextmanager
def page(executable: str) -> Iterator[Page]:
    """A tab of a Chromium of its own, gone with its profile after the `with` block."""
    to_browser, requests = os.pipe()
    answers, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The browser reads file descriptor 3 and writes 4.
        plumbing = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
        process = subprocess.Popen(
            [
                *("bash", "-c", plumbing, "bash", str(to_browser), str(from_browser)),
                *(executable, *_FLAGS, f"--user-data-dir={profile}"),
            ],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        try:
            tab = Page(requests, answers)
            tab.open_tab()
            yield tab
        finally:
            os.close(requests)
            os.close(answers)
            process.terminate()
            process.wait()
