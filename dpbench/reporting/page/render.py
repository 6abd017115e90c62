"""Contents -> HTML, by the template; every text is escaped."""

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dpbench import __version__, strings
from dpbench.reporting import private_text, text
from dpbench.reporting.page import references
from dpbench.reporting.page.answer_table import answer_rows, head
from dpbench.reporting.page.contents import Contents


def render(contents: Contents) -> str:
    """The page's HTML."""
    files = resources.files("dpbench.reporting.page")
    explored = any(table.name == "arms" and table.rows for table in contents.tables)
    names = ("vega.js", "explore.js", "page.js") if explored else ("page.js",)
    scripts = [files.joinpath(name).read_text(encoding="utf-8") for name in names]
    environment = Environment(
        loader=PackageLoader("dpbench.reporting.page", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["counted"] = strings.counted
    environment.filters["breakable"] = _breakable
    environment.filters["capitalize_first"] = lambda text: f"{text[:1].upper()}{text[1:]}"
    answers = [shown.answer for shown in contents.answers]
    chosen = any(each.best and each.best.price for each in answers)
    return environment.get_template("page.html").render(
        page=contents,
        baseline=text.baseline(contents.baseline),
        head=head(contents.answers),
        table=answer_rows(contents.answers),
        answers=[
            (
                shown,
                text.sentence(shown.answer, contents.baseline),
                list(text.remarks(shown.answer)),
            )
            for shown in contents.answers
        ],
        style=files.joinpath("page.css").read_text(encoding="utf-8"),
        explored=explored,
        scripts=scripts,
        # the browser runs these scripts and no other, whatever the results' texts hold
        script_hashes=[
            base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            for script in scripts
        ],
        chosen=chosen or bool(contents.private),
        references=references.bibtex(
            shuffled=contents.shuffled, chosen=chosen or bool(contents.private)
        ),
        private=[(each, list(private_text.lines(each))) for each in contents.private],
        keep_private=private_text.KEEP_PRIVATE,
        version=__version__,
    )


def _data_uri(content: str | bytes, kind: str) -> str:
    raw = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"


def _breakable(name: str) -> Markup:
    """A column's name, which may be broken at its underscores."""
    return Markup("_<wbr>").join(name.split("_"))
