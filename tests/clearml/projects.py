"""The endpoint of projects."""

from query import Listing, Options
from store import COMPANY

OPTIONS = Options(
    fields=(
        "id name basename user company created description tags system_tags parent path last_update"
    ).split(),
    lists="id user tags system_tags parent path".split(),
    dates=("last_update",),
    patterns=("name", "description"),
)


class Projects:
    """Holds the positions of scrolls; all else is in the store."""

    def __init__(self, store):
        self.store = store
        self.listing = Listing(OPTIONS)

    def get_all(self, call):
        projects = [p for p in self.store.projects.values() if p["company"] in (COMPANY, "", None)]
        if not call.body.get("search_hidden") and not call.body.get("id"):
            projects = [p for p in projects if "hidden" not in p.get("system_tags", [])]
        rows, scroll = self.listing.rows(projects, call.body, call.faults)
        rows = self.listing.cut(rows, call.body)
        return {"projects": rows, "scroll_id": scroll} if scroll else {"projects": rows}
