"""Report on many slides, then turn the reports into one CSV table: a line a slide, a column a question.

python examples/batch_to_table.py slides/ reports/
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path


def table(reports: Path) -> Path:
    """Write `table.csv` beside `reports.jsonl`; an abstention is an empty cell."""
    lines = (reports / "reports.jsonl").read_text(encoding="utf-8").splitlines()
    rows = []
    for report in map(json.loads, lines):
        answers = {f["name"]: "" if f["abstained"] else f["said"] for f in report["findings"]}
        rows.append({"slide": report["slide"], "tissue_mm2": report["specimen"]["tissue_mm2"], **answers})
    columns = list(dict.fromkeys(column for row in rows for column in row))
    path = reports / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def main(slides: str, out: str) -> Path:
    """Report on every slide of a folder. A slide that fails is listed in `failures.csv`; the rest goes on."""
    subprocess.run([sys.executable, "-m", "agent", "report", slides, "--out", out, "--resume"], check=False)
    path = table(Path(out))
    print(path.read_text(encoding="utf-8"))
    return path


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
