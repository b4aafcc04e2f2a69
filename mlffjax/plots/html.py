"""A report in one HTML file: numbers on top, figures with captions, settings at the end."""

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of a table of results.

    Attributes:
      quantity: what was measured.
      value: the number, as it is to be printed.
      unit: its unit, or empty.
      remark: how it was measured, or empty.
    """

    quantity: str
    value: str
    unit: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG file with what it shows.

    Attributes:
      path: of the file; its bytes go into the report.
      title: a few words.
      caption: what to see in it, in a sentence or two.
      wide: whether it takes the whole width of the page.
    """

    path: Path
    title: str
    caption: str
    wide: bool = False


_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f6f8; color: #22272e;
  font: 16px/1.55 "Source Sans 3", "Segoe UI", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 48px 40px 64px; background: #fff;
  min-height: 100vh; box-shadow: 0 0 24px rgba(30, 40, 60, .07); }
header { display: flex; gap: 36px; align-items: center; border-bottom: 1px solid #e1e5ea;
  padding-bottom: 28px; margin-bottom: 28px; }
header div { flex: 1; }
header img { width: 270px; flex: none; }
h1 { font-size: 32px; line-height: 1.2; margin: 0 0 12px; font-weight: 650;
  letter-spacing: -.01em; }
h2 { font-size: 21px; margin: 40px 0 12px; font-weight: 620; }
h3 { font-size: 16px; margin: 0 0 8px; font-weight: 620; }
p { margin: 0 0 10px; max-width: 84ch; }
table + p { margin-top: 20px; }
.lead { font-size: 17.5px; color: #48515c; }
table { border-collapse: collapse; min-width: 70%; font-size: 15.5px; }
th { text-align: left; font-weight: 600; color: #5a6470; font-size: 13px;
  border-bottom: 1.5px solid #c9d0d8; padding: 6px 12px 6px 0; }
td:first-child, th:first-child { padding-right: 48px; }
td { border-bottom: 1px solid #e8ebef; padding: 8px 12px 8px 0; vertical-align: baseline; }
.number { text-align: right; font-variant-numeric: tabular-nums; font-weight: 600;
  white-space: nowrap; padding-right: 8px; }
.unit { color: #5a6470; white-space: nowrap; padding-right: 28px; }
.remark { color: #5a6470; font-size: 14px; }
.figures { display: grid; grid-template-columns: 1fr 1fr; gap: 28px 28px; align-items: start; }
figure { margin: 0; height: 100%; border: 1px solid #e6e9ed; border-radius: 6px; padding: 18px; }
figure.wide { grid-column: 1 / -1; }
figure img { width: 100%; height: auto; display: block; }
figcaption { font-size: 14.5px; color: #48515c; margin-top: 10px; }
pre { background: #f5f6f8; border: 1px solid #e6e9ed; border-radius: 6px; padding: 16px 20px;
  font: 13px/1.5 "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-x: auto; }
footer { margin-top: 36px; font-size: 13px; color: #7a838e; }
@media (max-width: 760px) { .figures { grid-template-columns: 1fr; }
  main { padding: 24px 16px; } header { display: block; } .remark { display: none; } }
@media print { body { background: #fff; } main { box-shadow: none; padding: 0; }
  figure { break-inside: avoid; } }
"""


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    lead: str,
    rows: Sequence[Row],
    pictures: Sequence[Picture],
    notes: Sequence[str] = (),
    settings: str = "",
    cover: Path | None = None,
    footer: str = "",
) -> None:
    """Write the report; all pictures are in the file, and it loads nothing from elsewhere.

    Args:
      path: HTML file to write; it appears whole or not at all.
      title: heading of the page.
      lead: a sentence or two below it.
      rows: the table of results.
      pictures: the figures, in order.
      notes: paragraphs after the table: what the numbers mean and what limits them.
      settings: text shown verbatim at the end, such as the resolved YAML.
      cover: PNG beside the title, or ``None``.
      footer: last line: versions and the date.

    Raises:
      OSError: a picture cannot be read, or the file cannot be written.
    """
    path = Path(path)
    image = f'<img src="{_embedded(cover)}" alt="">' if cover else ""
    body = [
        f"<header><div><h1>{html.escape(title)}</h1>"
        f'<p class="lead">{html.escape(lead)}</p></div>{image}</header>',
        _table(rows),
        *(f"<p>{html.escape(text)}</p>" for text in notes),
        f'<h2>Figures</h2><section class="figures">{"".join(map(_figure, pictures))}</section>',
        f"<h2>Settings</h2><pre>{html.escape(settings)}</pre>" if settings else "",
        f"<footer>{html.escape(footer)}</footer>" if footer else "",
    ]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>\n{chr(10).join(part for part in body if part)}\n</main></body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)


def _table(rows: Sequence[Row]) -> str:
    lines = [
        f"<tr><td>{html.escape(row.quantity)}</td>"
        f'<td class="number">{html.escape(row.value)}</td>'
        f'<td class="unit">{html.escape(row.unit)}</td>'
        f'<td class="remark">{html.escape(row.remark)}</td></tr>'
        for row in rows
    ]
    head = '<tr><th>Quantity</th><th class="number">Value</th><th></th><th>Measured on</th></tr>'
    return f"<h2>Results</h2><table><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>"


def _figure(picture: Picture) -> str:
    kind = ' class="wide"' if picture.wide else ""
    title = html.escape(picture.title)
    return (
        f'<figure{kind}><h3>{title}</h3><img src="{_embedded(picture.path)}" alt="{title}">'
        f"<figcaption>{html.escape(picture.caption)}</figcaption></figure>"
    )


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
