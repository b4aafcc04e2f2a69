"""Where a number comes from: written into every file of results."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path


def provenance() -> dict[str, str]:
    """Commit of this code, marked where files were changed since, and the date."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "commit": commit or "unknown",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
