"""What a fresh interpreter does with a piece of code."""

import subprocess
import sys
from pathlib import Path


def imports_torch(code: str, cwd: Path) -> bool:
    """Whether a fresh interpreter has imported torch at the end of the code."""
    probe = f"import sys\ntry:\n {code}\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=cwd, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1] == "True"
