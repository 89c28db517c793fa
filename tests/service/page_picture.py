"""Take the picture of the page for the README, of a service on the example passages: `make serve` first."""

import base64
import shutil
import sys
import time
from pathlib import Path

QUESTION = "Combien d'heures de sommeil faut-il à un adulte ?"
PICTURE = Path(__file__).parents[2] / "docs/page.png"


def picture(address: str) -> bytes:
    """Return a PNG of the page with a French question and the passages that answer, 1,000 pixels wide.

    :param address: of a service on the example passages.
    """
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    with Chrome(options=options, service=Service(shutil.which("chromedriver"))) as driver:
        size = {"width": 1000, "height": 760, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(f"{address}#q={QUESTION}")
        while not driver.find_elements("css selector", ".passage"):
            time.sleep(0.1)
        time.sleep(0.5)
        return base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])


if __name__ == "__main__":
    PICTURE.write_bytes(picture(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/"))
