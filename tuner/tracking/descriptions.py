"""The descriptions that MLflow shows, of which a person may have written some.

The description of a run is a page of sections, each with one writer. It is renewed as long as it is
what tuner wrote last, and left alone once a person has written or changed one. A tag with the
digest of what was written tells that.
"""

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from tuner.errors import encodable

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTE_TAG = "mlflow.note.content"
"""MLflow's tag with the description of an experiment or a run, in Markdown."""
DIGEST_TAG = "tuner.description"
"""Tag of a run or version that tuner has described: digests of what it may have written last."""
EXPERIMENT = (
    "Studies of tuner: a run for each study, with its result, and the runs of its trials below."
)

Title = Literal["Search", "Confirmation", "Refit", "Promotion"]
_TITLES: tuple[Title, ...] = ("Promotion", "Confirmation", "Refit", "Search")
"""In the order of the page, of which MLflow shows the first lines until a person wants more."""
_LONGEST = 8000
"""The longest value of a run's tag, in characters (mlflow/utils/validation.py)."""
_HEADINGS = re.compile(r"(?m)^## (.*)\n")


def describe(client: "MlflowClient", run_id: str, title: Title, text: str) -> None:
    """Writes one section of a run's description, unless a person has written the description.

    Args:
        client: connected to the run's store.
        run_id: the run.
        title: the section, which replaces an earlier one.
        text: its Markdown, without headings.
    """
    from mlflow.entities import RunTag

    tags = client.get_run(run_id).data.tags
    page = tags.get(NOTE_TAG, "")
    if page.strip() and tags.get(DIGEST_TAG) != digest_of(page):
        return
    new = encodable(with_section(page, title, text))[:_LONGEST]
    if new != page:
        written = {NOTE_TAG: new, DIGEST_TAG: digest_of(new)}
        client.log_batch(run_id, tags=[RunTag(*pair) for pair in written.items()])


def with_section(page: str, title: Title, text: str) -> str:
    """Returns the page with one section added or replaced."""
    _, *found = _HEADINGS.split(page)
    sections = dict(zip(found[::2], found[1::2], strict=True)) | {title: text}
    known = ((each, sections[each].strip()) for each in _TITLES if each in sections)
    return "\n\n".join(f"## {each}\n\n{own}" for each, own in known)


def digest_of(page: str) -> str:
    """A digest of a description, for `DIGEST_TAG`."""
    return sha256(page.encode()).hexdigest()[:16]
