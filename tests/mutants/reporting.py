"""Reports: hostile text stays text, and secrets stay masked."""

from __future__ import annotations

from mutants.mutant import RUNTIME, mutant

_PAGE = f"{RUNTIME}/reports/page"
_RENDER = "runtime/reports/page/test_render.py"
_HOSTILE = f"{_RENDER}::test_hostile_text_stays_text"
_MASKED = f"{_RENDER}::test_secrets_are_masked_before_texts_are_cut_and_escaped"

MUTANTS = (
    mutant(
        "the page does not escape",
        _HOSTILE,
        f"{_PAGE}/render.py",
        "        autoescape=True,\n",
        "        autoescape=False,\n",
    ),
    mutant(
        "the page shows control characters as they are",
        _HOSTILE,
        f"{_PAGE}/texts.py",
        '    return escape_text(text).replace("\\ufeff", "\\\\ufeff")\n',
        "    return text\n",
    ),
    mutant(
        "an image has the type that the journal says",
        _HOSTILE,
        f"{_PAGE}/view.py",
        "        kind = media_type_of(image.data)\n",
        "        kind = image.media_type\n",
    ),
    mutant(
        "the page may run scripts",
        f"{_RENDER}::test_the_page_may_load_and_run_nothing",
        f"{_PAGE}/render.py",
        "default-src 'none'; ",
        "",
    ),
    mutant(
        "the texts of a page are not masked",
        _MASKED,
        f"{_PAGE}/texts.py",
        '        whole = self.mask.apply(kept.whole()).replace("\\r\\n", "\\n")\n',
        '        whole = kept.whole().replace("\\r\\n", "\\n")\n',
    ),
    mutant(
        "the diffs of a page are not masked",
        _MASKED,
        f"{_PAGE}/diff.py",
        "        texts.mask.apply(old).",
        "        old.",
    ),
    mutant(
        "what does not fit on a page is left out without a word",
        f"{_RENDER}::test_a_run_of_any_size_gives_a_small_page_that_says_what_it_leaves_out",
        f"{_PAGE}/view.py",
        "        if entries:\n",
        "        if entries > 10**9:\n",
    ),
    mutant(
        "the flag is drawn where the call ended",
        "runtime/reports/page/test_timeline.py::test_bars_and_marks_stand_where_the_events_were",
        f"{_PAGE}/timeline.py",
        '        flag = call.ended - call.rungs_ms["ended"] / 1000\n',
        "        flag = call.ended\n",
    ),
)
