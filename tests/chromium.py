"""A page in Chromium, headless, as a user has it. UNDERSTUDY_SCREENSHOTS names a folder for what it looked like."""

import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

from .host.environment import unavailable

SIZE = 1366, 768


class Page:
    """A page of one browser. ``seconds``: how long it is waited for what has to come."""

    seconds = 60

    def __init__(self, driver):
        self.driver = driver

    def js(self, code: str, *values):
        return self.driver.execute_script(code, *values)

    def until(self, what: str, code: str, *values):
        """Waits until the JavaScript expression is true, and gives its value."""
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            if found := self.js(f"return {code}", *values):
                return found
            time.sleep(0.1)
        raise AssertionError(f"{what} did not come within {self.seconds} s")

    def shot(self, name: str, width: int = SIZE[0], height: int = SIZE[1]):
        folder = os.environ.get("UNDERSTUDY_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.driver.set_window_size(width, height)
            time.sleep(0.5)
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))
            self.driver.set_window_size(*SIZE)


@contextmanager
def chromium():
    """The driver of a Chromium that reaches this machine alone; the test is skipped where there is none."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (browser and driver):
        unavailable("there is no Chromium with its chromedriver here (Debian: chromium-driver)")
    try:
        from selenium import webdriver
    except ImportError:
        unavailable("selenium is not installed (pip install -e '.[test]')")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    alone = ("no-proxy-server", "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")  # fonts are asked for outside
    size = "window-size={},{}".format(*SIZE)
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", size, "lang=en", *alone):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield driver
    finally:
        driver.quit()
