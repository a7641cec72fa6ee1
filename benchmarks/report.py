"""Time `cnnbench report` for many runs: making the page, its size, and its reactions in a browser.

    python benchmarks/report.py [--runs 200] [--epochs 50] [--browser /usr/bin/chromium]

Makes runs with made-up figures, a grid over networks, rates, batch sizes and seeds, and reports
them. In the browser it measures milliseconds from an action to the frame in which the table shows
its effect, and to the frame in which all charts do. Prints medians, with the slowest in brackets.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from helpers.fake_runs import make_grid

ROUNDS = 7
TIMED = """async (action) => {
    const painted = () => new Promise((done) =>
        requestAnimationFrame(() => scheduler.postTask(done, {priority: "user-blocking"})));
    await painted();
    const began = performance.now();
    (0, eval)(action);
    await painted();
    const seen = performance.now() - began;
    while (isWaiting) await painted();
    await painted();
    return [seen, performance.now() - began];
}"""
TYPED = "find('filter').value = '{}'; find('filter').dispatchEvent(new Event('input'))"
ACTIONS = {  # statements that run in turn, by name
    "sort": [f"headers[{column}].querySelector('button').click()" for column in (9, 4, 1)],
    "filter": [TYPED.format(text) for text in ("l", "lenet", "lenet lr=0.1", "")],
    "choose one": ["rows[50].querySelector('input').click()"] * 2,
    "choose all": ["find('choose-shown').click()", "find('choose-none').click()"],
    "light, dark": ["find('theme').click()"] * 2,
}


def make_runs(folder: Path, runs: int, epochs: int) -> None:
    models = ["lenet", "lenet_relu", "nin", "resnet18", "mlp"]
    rates, batch_sizes = [0.003, 0.01, 0.03, 0.1, 0.3], [32, 64, 128, 256]
    make_grid(folder, models, rates, batch_sizes, list(range(max(1, runs // 100))), epochs)


def measure_browser(page_file: Path, executable: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        viewport = {"width": 1440, "height": 900}
        page = browser.new_page(viewport=viewport, bypass_csp=True)  # the policy forbids eval
        began = time.perf_counter()
        page.goto(page_file.as_uri())
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        print(f"opened in {time.perf_counter() - began:.1f} s")
        print(f"{'':<12} {'seen':>14}    {'drawn':>14}")
        for name, actions in ACTIONS.items():
            times = [page.evaluate(TIMED, action) for _ in range(ROUNDS) for action in actions]
            columns = zip(*times, strict=True)
            seen, drawn = (f"{statistics.median(ms):6.0f} ({max(ms):.0f})" for ms in columns)
            print(f"{name:<12} {seen:>14} ms {drawn:>14} ms")
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, help="in hundreds")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    options: Any = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder, "runs"), options.runs, options.epochs)
        began = time.perf_counter()
        command = [sys.executable, "-m", "cnnbench", "report", "runs"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        page = Path(folder, "runs", "report.html")
        size = f"{page.stat().st_size / 1e6:.1f} MB"
        print(f"{options.runs} runs of {options.epochs} epochs: {seconds:.1f} s, {size}")
        measure_browser(page, options.browser)


if __name__ == "__main__":
    main()
