"""What can be told of the page without a browser."""

import re

import pandas as pd
import pytest

from pipelines.rendering import html
from pipelines.rendering.parts import Report, Section, Table, Text, Verdict, Verdicts

SHOWN = pd.DataFrame(
    {"method": ["A & <b>", "B"], "mIoU": ["32.7 ± 2.4", "23.86 ± 0.85"], "verdict": ["not run"] * 2}
)


def page(*parts, tmp_path, lead=()):
    report = Report("A <title>", lead, [Section("The section", parts)])
    return html.render(report, tmp_path)


def table(**changes):
    return Table(
        **{"name": "t", "data": SHOWN, "shown": SHOWN, "caption": "A *caption*."} | changes
    )


def test_text_is_escaped_and_markdown_becomes_html(tmp_path):
    shown = page(table(), Text("- a `b`\n- <script>"), tmp_path=tmp_path, lead=[Text("> **x** y")])
    assert "<title>A &lt;title&gt;</title>" in shown
    assert "A &amp; &lt;b&gt;" in shown and "A <em>caption</em>." in shown
    assert "<li>a <code>b</code></li>" in shown and "<li>&lt;script&gt;</li>" in shown
    assert "<blockquote>\n<p><strong>x</strong> y</p>" in shown


def test_cells_lead_to_places_that_there_are(tmp_path):
    anchors = [{"mIoU": "here"}, "nowhere"]
    shown = page(table(anchors=anchors, ids=["here", ""]), tmp_path=tmp_path)
    assert shown.count('href="#here"') == 1 and "nowhere" not in shown
    assert '<tr role="row" id="here">' in shown and 'id=""' not in shown


def test_numbers_stand_below_each_other_and_only_the_given_cells_are_bold(tmp_path):
    shown = page(table(strong={(1, "mIoU")}), tmp_path=tmp_path)
    pad = '<span class="pad" aria-hidden="true">0</span>'
    assert f'<td role="cell" data-label="mIoU" class="number">32.7{pad} ± 2.4{pad}</td>' in shown
    assert (
        '<td role="cell" data-label="mIoU" class="number"><strong>23.86 ± 0.85</strong></td>'
        in shown
    )
    assert shown.count("<strong>") == 1
    assert shown.count('<td role="cell" data-label="verdict" class="not-run">') == 2
    assert '<th scope="row" role="rowheader" data-label="method">B</th>' in shown


def test_what_is_the_same_in_all_rows_takes_no_room(tmp_path):
    several = SHOWN.assign(model=["one", "two"])
    several.insert(0, "data set", "shapes")
    shown = page(table(data=several, shown=several), tmp_path=tmp_path)
    assert ">model</th>" in shown and ">two</td>" in shown
    assert "data set" not in shown and "shapes" not in shown


@pytest.mark.parametrize("verdict", ["reproduced", "not reproduced", "inconclusive", "not run"])
def test_every_verdict_stands_at_the_top_in_the_same_form(tmp_path, verdict):
    judged = Verdict("`a` (x, y)", verdict, "claimed was more", "Found: less", "mIoU -1.0")
    head, body = page(Verdicts([judged]), tmp_path=tmp_path).split("<main")
    kind = verdict.replace(" ", "-")
    assert f'<li class="verdict {kind}"><a href="#claims"><strong>{verdict}</strong>' in head
    assert "<code>a</code> (x, y)" in head and "<small>mIoU -1.0</small>" in head
    assert f'<li class="verdict {kind}">' in body and "Claimed was more. Found: less." in body


def test_a_part_that_the_page_cannot_show_is_an_error(tmp_path):
    with pytest.raises(Exception, match=r"parts/int\.html"):
        page(3, tmp_path=tmp_path)


def test_the_style_and_the_script_fetch_nothing(tmp_path):
    shown = page(table(), tmp_path=tmp_path)
    assert not re.findall(r"(?:src|href)=\"(?!#|data:|tables/)|@import|url\(|fetch\(", shown)
