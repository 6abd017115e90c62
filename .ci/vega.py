"""Writes dpbench/reporting/page/vega.js, the library of the page's Explore view.

pip install vl-convert-python && python .ci/vega.py
"""

from pathlib import Path

import vl_convert

TARGET = Path(__file__).parents[1] / "dpbench" / "reporting" / "page" / "vega.js"
HEAD = (
    f"/* Vega {vl_convert.get_vega_version()}, Vega-Lite {vl_convert.get_vegalite_versions()[-1]} "
    f"and Vega-Embed {vl_convert.get_vega_embed_version()} (BSD-3-Clause, University of Washington "
    "Interactive Data Lab), with D3 (ISC, Mike Bostock) and others, as vl-convert-python "
    f"{vl_convert.__version__} bundles them. vega.LICENSE has the licences. */\n"
)

if __name__ == "__main__":
    bundle = vl_convert.javascript_bundle()
    assert "</script" not in bundle.lower()
    # in a function, for its short names are no globals
    TARGET.write_text(f"{HEAD}(() => {{{bundle}\n}})();\n", encoding="utf-8")
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")
