"""Contents -> HTML, by the template; every text is escaped."""

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from dpbench import __version__, wording
from dpbench.page.contents import Contents

_ACCOUNTANTS = """\
@inproceedings{gopi2021numerical,
  title = {Numerical Composition of Differential Privacy},
  author = {Gopi, Sivakanth and Lee, Yin Tat and Wutschitz, Lukas},
  booktitle = {Advances in Neural Information Processing Systems 34},
  year = {2021}
}
@inproceedings{mironov2017renyi,
  title = {R{\\'e}nyi Differential Privacy},
  author = {Mironov, Ilya},
  booktitle = {30th IEEE Computer Security Foundations Symposium},
  year = {2017}
}
@article{mironov2019sampled,
  title = {R{\\'e}nyi Differential Privacy of the Sampled {Gaussian} Mechanism},
  author = {Mironov, Ilya and Talwar, Kunal and Zhang, Li},
  journal = {arXiv:1908.10530},
  year = {2019}
}
"""


def render(contents: Contents) -> str:
    """The page's HTML."""
    files = resources.files("dpbench.page")
    script = files.joinpath("page.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("dpbench.page", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    return environment.get_template("page.html").render(
        page=contents,
        baseline=wording.baseline(contents.baseline),
        answers=[
            (wording.sentence(each), list(wording.remarks(each))) for each in contents.answers
        ],
        style=files.joinpath("page.css").read_text(encoding="utf-8"),
        script=script,
        # the browser runs this script and no other, whatever the results' texts hold
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        accountants=_ACCOUNTANTS,
        version=__version__,
    )


def _data_uri(content: str | bytes, kind: str) -> str:
    raw = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"
