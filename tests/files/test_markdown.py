"""Tables in Markdown, and as HTML: what people wrote is shown, never run."""

from bloomz_haystack.files.markdown import as_written, markdown_html, markdown_table


def test_a_table_by_hand() -> None:
    table = markdown_table(["modèle", "MRR"], [["un | deux", "1"], ["a\nb", "–"]], numbers=True)
    assert table == "| modèle | MRR |\n| --- | --: |\n| un \\| deux | 1 |\n| a b | – |"
    assert markdown_table(["x", "y"], []) == "| x | y |\n| --- | --- |"


def test_html_of_a_name_is_shown_and_not_run() -> None:
    name = "<script>alert('é')</script> & <b>gras</b> | [lien](javascript:alert(1)) *étoile* `code`"
    for shown in (name, as_written(name)):
        page = markdown_html(markdown_table(["système"], [[shown]]))
        assert "<table>" in page
        assert page.count("<td>") == 1
        assert "<script" not in page
        assert "<b>" not in page
        assert "href" not in page
        assert "&lt;script&gt;alert('é')&lt;/script&gt; &amp; &lt;b&gt;gras&lt;/b&gt;" in page
    assert "*étoile* `code`" in page, "as written, stars and backticks mean nothing"
    assert "<em>" in markdown_html(name), "negative control"
