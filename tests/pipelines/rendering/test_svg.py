import re
from xml.etree import ElementTree

from matplotlib.figure import Figure

from pipelines.rendering import style, svg


def drawn(tmp_path, **line):
    with style.drawing():
        figure = Figure(figsize=(2, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], marker="o", **line)
        style.save(figure, tmp_path, "line")
    return (tmp_path / "line.svg").read_text(encoding="utf-8")


def test_ids_belong_to_one_figure_and_references_follow(tmp_path):
    text = drawn(tmp_path)
    inlined = svg.inline(text, "a", "Title", "What it shows")
    ids = set(re.findall(r'\bid="([^"]+)"', inlined))
    assert ids and all(name.startswith("a-") for name in ids)
    references = set(re.findall(r'(?:href="#|url\(#)([^")]+)', inlined))
    assert references and references <= ids
    assert not ids & set(re.findall(r'\bid="([^"]+)"', svg.inline(text, "b", "Title", "x")))


def test_it_has_a_text_and_nothing_that_reaches_beyond_it(tmp_path):
    root = ElementTree.fromstring(svg.inline(drawn(tmp_path), "a", "Ti & tle", "What <it> shows"))
    assert root.get("role") == "img" and root.get("aria-labelledby") == "a-title a-desc"
    assert [child.text for child in root[:2]] == ["Ti & tle", "What <it> shows"]
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"style", "metadata", "script"} and "text" in tags


def test_greys_become_ink_and_colours_stay(tmp_path):
    grey = svg.inline(drawn(tmp_path, color="0.8"), "a", "", "")
    assert "color-mix(in srgb, var(--ink) 20%, var(--paper))" in grey and "#cccccc" not in grey
    assert "#d55e00" in svg.inline(drawn(tmp_path, color="#D55E00"), "a", "", "")
    red, green, blue = style.fixed((128, 128, 128))
    assert "#808081" in svg.inline(drawn(tmp_path, color=(red, green, blue)), "a", "", "")
    assert style.fixed((255, 255, 255)) == (1, 1, 254 / 255)
    assert style.fixed((1, 2, 3)) == (1 / 255, 2 / 255, 3 / 255)
