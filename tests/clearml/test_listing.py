"""Holds the double to what is known of the real listings: filters, dates, pages, scrolls and fields."""

import unittest

import seed
from client import DoubleCase


class Filters(DoubleCase):
    def setUp(self):
        super().setUp()
        self.start(
            [
                seed.task("a", tags=["x", "y"], type="training", project="p1", user="u1", name="Net one"),
                seed.task("b", tags=["x"], type="testing", project="p2", user="u2", parent="a"),
                seed.task("c", archived=False, status="in_progress", execution={"queue": "q1"}),
                seed.task("d", tags=[], system_tags=["archived", "dataset"], project="p3"),
                seed.task("hid", system_tags=["archived", "hidden"]),
                seed.task("pub", company=""),
                seed.task("far", company="another company"),
                seed.task("e", models={"input": [{"name": "m", "model": "m1"}]}, comment="old run"),
            ],
            projects=[
                {"id": "p1", "name": "top"},
                {"id": "p2", "name": "top/below"},
                {"id": "p3", "name": "topmost"},
            ],
        )

    def test_each_list_filter(self):
        self.assertEqual(self.ids(id=["a", "c", "none"]), ["a", "c"])
        self.assertEqual(self.ids(user=["u2"]), ["b"])
        self.assertEqual(self.ids(type=["testing"]), ["b"])
        self.assertEqual(self.ids(status=["in_progress"]), ["c"])
        self.assertEqual(self.ids(parent=["a"]), ["b"])
        self.assertEqual(self.ids(project=["p1"]), ["a"])
        self.assertEqual(self.ids(**{"execution.queue": ["q1"]}), ["c"])
        self.assertEqual(self.ids(**{"models.input.model": ["m1"]}), ["e"])

    def test_hyperparameters_are_a_filter(self):
        params = {"General": {"lr": {"section": "General", "name": "lr", "value": "0.1"}}}
        self.start([seed.task("t1", hyperparams=params), seed.task("t2")])
        self.assertEqual(self.ids(**{"hyperparams.General.lr.value": ["0.1"]}), ["t1"])

    def test_name_and_comment_are_regular_expressions(self):
        self.assertEqual(self.ids(name="^Net"), ["a"])
        self.assertEqual(self.ids(comment="old .un"), ["e"])
        self.assertEqual(self.call("tasks.get_all", name="(").code, "400/21")
        self.assertEqual(self.ids(_any_={"pattern": "NET", "fields": ["name", "comment"]}), ["a"])

    def test_lists_have_operators_and_the_old_exclusion(self):
        def tags(*values):
            return self.ids(tags=list(values))

        self.assertEqual(tags("x"), ["a", "b"])
        self.assertEqual(tags("__$all", "x", "y"), ["a"])
        self.assertEqual(tags("__$all", "x", "__$not", "y"), ["b"])
        self.assertNotIn("a", tags("-x"))
        self.assertIn("d", tags("-x"))
        self.assertIn("d", tags(None))
        self.assertNotIn("a", tags(None))
        wanted = ["__$all", "archived", "__$not", "dataset"]
        self.assertEqual(self.ids(system_tags=wanted, project=["p1", "p3"]), ["a"])
        self.assertEqual(self.call("tasks.get_all", tags=["__$what"]).code, "400/16")

    def test_subprojects_are_included_when_asked_and_known(self):
        self.assertEqual(self.ids(project=["p1"], include_subprojects=True), ["a", "b"])
        self.double.store.version = (2, 25)
        self.assertEqual(self.ids(project=["p1"], include_subprojects=True), ["a"])

    def test_hidden_tasks_are_left_out_unless_asked_for_or_named(self):
        self.assertNotIn("hid", self.ids())
        self.assertNotIn("hid", self.ids(search_hidden=False))
        self.assertIn("hid", self.ids(search_hidden=True))
        self.assertEqual(self.ids(id=["hid"]), ["hid"])
        self.double.store.version = (2, 13)
        self.assertIn("hid", self.ids())

    def test_public_tasks_are_included_and_those_of_others_are_not(self):
        self.assertIn("pub", self.ids())
        self.assertNotIn("far", self.ids(search_hidden=True))

    def test_unknown_keys_are_ignored(self):
        self.assertEqual(self.ids(id=["a"], method="get", no_such=1), ["a"])

    def test_projects_are_listed_by_name_and_id(self):
        self.assertEqual(len(self.call("projects.get_all").data["projects"]), 3)
        self.assertEqual(self.call("projects.get_all", name="^top$").data["projects"][0]["id"], "p1")


class Dates(DoubleCase):
    def setUp(self):
        super().setUp()
        self.start([seed.task("old", 40), seed.task("new", 1), seed.task("none", status_changed=None)])

    def matches(self, *bounds):
        return sorted(self.ids(status_changed=list(bounds)))

    def test_a_date_is_compared_in_each_form_that_the_server_reads(self):
        middle = seed.days_ago(20)
        plain = middle[:26].replace("T", " ")
        for text in (plain, plain[:19], middle[:26], middle[:26] + "Z", middle, "2100-01-01T00:00:00+02:00"):
            wanted = ["new", "old"] if text.startswith("2100") else ["old"]
            self.assertEqual(self.matches(f"<{text}"), wanted, text)
            self.assertEqual(self.matches(f"<={text}"), wanted, text)
        self.assertEqual(self.matches(f">{plain}"), ["new"])
        self.assertEqual(self.matches(f">={plain}", "<2100-01-01 00:00:00"), ["new"])

    def test_the_other_dates_are_filters_too(self):
        bound = f"<{seed.days_ago(20)}"
        self.assertEqual(self.ids(last_update=[bound], id=["old", "new"]), ["old"])
        self.assertEqual(self.ids(last_change=bound, id=["old", "new"]), ["old"])

    def test_a_date_that_the_server_cannot_read_is_no_filter(self):
        far = "<123456-01-01 00:00:00"
        for text in ("<1700000000", "<1700000000000", "<garbage", far, "<2026-13-45 00:00:00"):
            self.assertEqual(self.matches(text), ["new", "none", "old"], text)
        self.assertEqual(self.matches(), ["new", "none", "old"])

    def test_a_task_without_the_date_matches_no_bound(self):
        self.assertEqual(self.matches("<2100-01-01 00:00:00"), ["new", "old"])


class Pages(DoubleCase):
    def setUp(self):
        super().setUp()
        self.start([seed.task(f"t{n:04}", last_update="2024-01-01 00:00:00") for n in range(620)])

    def test_a_page_is_500_at_most(self):
        self.assertEqual(len(self.ids(page=0, page_size=5000)), 500)
        self.assertEqual(len(self.ids(page=1, page_size=5000)), 120)
        self.assertEqual(len(self.ids()), 500)

    def test_a_negative_page_or_an_empty_size_is_an_error(self):
        for wrong in ({"page": -1}, {"page_size": 0}, {"page_size": "many"}):
            self.assertEqual(self.call("tasks.get_all", **wrong).code, "400/12", wrong)

    def test_the_order_is_total_by_the_id(self):
        order = {"order_by": ["-last_update"], "page_size": 100}
        pages = [self.ids(page=n, **order) for n in range(8)]
        self.assertEqual([len(page) for page in pages], [100] * 6 + [20, 0])
        self.assertEqual(sum(pages, []), [f"t{n:04}" for n in range(620)])
        self.assertEqual(self.ids(order_by=["-id"], page_size=1), ["t0619"])

    def test_order_by_an_unknown_field_is_no_error(self):
        self.assertEqual(len(self.ids(order_by=["no_such"], page_size=3)), 3)

    def test_deleting_between_pages_skips_a_page(self):
        self.call("tasks.delete_many", ids=self.ids(page=0, page_size=100, order_by=["id"]))
        self.assertEqual(self.ids(page=1, page_size=100, order_by=["id"])[0], "t0200")

    def test_a_scroll_ends_with_an_empty_page_and_counts_rows(self):
        seen, scroll = [], None
        while True:
            data = self.call("tasks.get_all", size=250, scroll_id=scroll, order_by=["id"]).data
            rows, scroll = data["tasks"], data["scroll_id"]
            if not rows:
                break
            seen += [row["id"] for row in rows]
        self.assertEqual(seen, [f"t{n:04}" for n in range(620)])

    def test_a_scroll_skips_what_takes_the_place_of_deleted_rows(self):
        first = self.call("tasks.get_all", size=100, scroll_id=None, order_by=["id"])
        self.call("tasks.delete_many", ids=[task["id"] for task in first.data["tasks"]])
        second = self.call("tasks.get_all", size=100, scroll_id=first.data["scroll_id"], order_by=["id"])
        self.assertEqual(second.data["tasks"][0]["id"], "t0200")
        self.assertEqual(self.call("tasks.get_all", scroll_id=None).code, "400/12")


class Fields(DoubleCase):
    def test_only_the_fields_that_are_asked_for_come(self):
        self.start([seed.task("t1", artifacts=["{files}/a"], name="n")])
        rows = self.call("tasks.get_all", only_fields=["id", "execution.artifacts.uri"]).data["tasks"]
        uri = f"{self.double.files.url}/a"
        self.assertEqual(rows, [{"id": "t1", "execution": {"artifacts": [{"uri": uri}]}}])
        self.assertEqual(self.call("tasks.get_all", only_fields=["nope"]).code, "400/14")
        self.assertEqual(self.call("models.get_all", only_fields=["nope"]).code, "400/14")

    def test_one_task_is_found_by_id_or_is_400_101(self):
        self.start([seed.task("t1"), seed.task("far", company="another company")])
        self.assertEqual(self.call("tasks.get_by_id", task="t1").data["task"]["status"], "completed")
        for unknown in ("none", "far"):
            self.assertEqual(self.call("tasks.get_by_id", task=unknown).code, "400/101")
        self.assertEqual(self.call("tasks.get_by_id").code, "400/12")

    def test_the_status_change_comes_back_as_it_was_seeded(self):
        self.start([seed.task("t1", status_changed="2020-02-03 04:05:06.789")])
        when = self.call("tasks.get_by_id", task="t1").data["task"]["status_changed"]
        self.assertEqual(when, "2020-02-03T04:05:06.789000+00:00")

    def test_old_versions_of_the_api_show_one_output_model(self):
        self.start([seed.task("t1", models={"output": [{"name": "m", "model": "m1"}]})])
        self.assertEqual(self.call("v2.9/tasks.get_by_id", task="t1").data["task"]["output"]["model"], "m1")
        self.assertNotIn("output", self.call("v2.13/tasks.get_by_id", task="t1").data["task"])


class Events(DoubleCase):
    def pages(self, **body):
        seen, totals, scroll = [], set(), None
        while True:
            data = self.call("events.get_task_events", scroll_id=scroll, **body).data
            self.assertEqual(data["returned"], len(data["events"]))
            totals.add(data["total"])
            scroll = data["scroll_id"]
            if not data["events"]:
                return seen, totals
            seen += data["events"]

    def test_the_total_is_capped_and_the_pages_go_on(self):
        samples = [seed.sample(f"u{n}", timestamp=n) for n in range(12_000)]
        self.start([seed.task("t1")], events={"t1": samples})
        seen, totals = self.pages(task="t1", event_type="training_debug_image", batch_size=5000)
        self.assertEqual([event["url"] for event in seen], [f"u{n}" for n in range(12_000)])
        self.assertEqual(totals, {10_000})

    def test_kinds_are_told_apart_and_ordered_by_time(self):
        samples = [seed.sample("u2", timestamp=2), seed.sample("u1", timestamp=1)]
        mixed = [*samples, seed.plot("p1", "p2"), {"type": "log"}]
        self.start([seed.task("t1")], events={"t1": mixed})
        images, _ = self.pages(task="t1", event_type="training_debug_image", order="asc")
        self.assertEqual([event["url"] for event in images], ["u1", "u2"])
        images, _ = self.pages(task="t1", event_type="training_debug_image", order="desc")
        self.assertEqual([event["url"] for event in images], ["u2", "u1"])
        plots, _ = self.pages(task="t1", event_type="plot")
        self.assertEqual([event["source_urls"] for event in plots], [["p1", "p2"]])
        self.assertEqual(len(self.pages(task="t1")[0]), 4)

    def test_an_image_may_lack_its_url_and_a_plot_may_be_no_json(self):
        odd = [{"type": "training_debug_image"}, {"type": "plot", "plot_str": "{"}]
        self.start([seed.task("t1")], events={"t1": odd})
        image, plot = self.pages(task="t1")[0]
        self.assertNotIn("url", image)
        self.assertNotIn("source_urls", plot)

    def test_events_of_a_model_come_with_their_own_flag(self):
        self.start([seed.task("t1")], [seed.model("m1")], {"m1": [seed.sample("u")]})
        self.assertEqual(self.pages(task="m1", model_events=True)[0][0]["url"], "u")
        self.assertEqual(self.call("events.get_task_events", task="m1").code, "400/101")
        self.assertEqual(self.call("events.get_task_events", task="t1", model_events=True).code, "400/201")

    def test_events_of_a_deleted_task_are_gone(self):
        self.start([seed.task("t1")], events={"t1": [seed.sample("u")]})
        self.call("tasks.delete", task="t1")
        self.assertEqual(self.call("events.get_task_events", task="t1").code, "400/101")


if __name__ == "__main__":
    unittest.main()
