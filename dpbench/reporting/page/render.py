"""Contents -> HTML, by the template; every text is escaped."""

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from dpbench import __version__, strings
from dpbench.reporting import text
from dpbench.reporting.page import references
from dpbench.reporting.page.contents import Contents


def render(contents: Contents) -> str:
    """The page's HTML."""
    files = resources.files("dpbench.reporting.page")
    script = files.joinpath("page.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("dpbench.reporting.page", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["counted"] = strings.counted
    chosen = any(each.best and each.best.price for each in contents.answers)
    return environment.get_template("page.html").render(
        page=contents,
        baseline=text.baseline(contents.baseline),
        answers=[
            (
                text.sentence(each, contents.baseline),
                list(text.remarks(each)),
                each.best and each.best.statement,
            )
            for each in contents.answers
        ],
        style=files.joinpath("page.css").read_text(encoding="utf-8"),
        script=script,
        # the browser runs this script and no other, whatever the results' texts hold
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        chosen=chosen,
        references=references.bibtex(shuffled=contents.shuffled, chosen=chosen),
        version=__version__,
    )


def _data_uri(content: str | bytes, kind: str) -> str:
    raw = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"
