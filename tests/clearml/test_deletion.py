"""Holds the double to what is known of deletions on the real server: who may go, and what goes along."""

import unittest

import seed
from client import DoubleCase
from store import DELETED


class WhoMayGo(DoubleCase):
    STATUSES = (
        "created queued in_progress stopped published publishing closed failed completed unknown"
    ).split()

    def test_an_archived_task_in_any_status_goes_without_force(self):
        self.start([seed.task(status, status=status) for status in self.STATUSES])
        for status in self.STATUSES:
            self.assertEqual(self.call("tasks.delete", task=status).code, "200/0", status)
        self.assertEqual(self.left(), [])

    def test_a_live_task_goes_only_as_draft_or_by_force(self):
        self.start([seed.task(status, archived=False, status=status) for status in self.STATUSES])
        for status in self.STATUSES:
            wanted = "200/0" if status == "created" else "400/123"
            answer = self.call("tasks.delete", task=status)
            self.assertEqual(answer.code, wanted, status)
        self.assertIn("due to status, use force=True", answer.json["meta"]["result_msg"])
        for status in self.STATUSES[1:]:
            self.assertEqual(self.call("tasks.delete", task=status, force=True).code, "200/0", status)

    def test_servers_before_1_0_take_drafts_only(self):
        self.start([seed.task("draft", status="created"), seed.task("done")], version="2.9")
        self.assertEqual(self.call("tasks.delete", task="done").code, "400/123")
        self.assertEqual(self.call("tasks.delete", task="draft").code, "200/0")
        self.assertEqual(self.call("tasks.delete", task="done", force=True).code, "200/0")

    def test_published_children_ask_for_force(self):
        self.start([seed.task("t1"), seed.task("t2", parent="t1", status="published")])
        answer = self.call("tasks.delete", task="t1")
        self.assertEqual(answer.code, "400/123")
        self.assertIn("has children", answer.json["meta"]["result_msg"])
        self.assertEqual(self.call("tasks.delete", task="t1", force=True).code, "200/0")

    def test_published_output_models_ask_for_force(self):
        named = {"output": [{"name": "m", "model": "m2"}]}
        self.start(
            [seed.task("t1"), seed.task("t2", models=named)],
            [seed.model("m1", "t1", ready=True), seed.model("m2", ready=True)],
        )
        for task in ("t1", "t2"):
            answer = self.call("tasks.delete", task=task)
            self.assertEqual(answer.code, "400/123")
            self.assertIn("has output models", answer.json["meta"]["result_msg"])
            self.assertEqual(self.call("tasks.delete", task=task, force=True).code, "200/0")

    def test_an_unknown_task_is_400_101_and_a_public_one_403_21(self):
        self.start([seed.task("pub", company="")])
        self.assertEqual(self.call("tasks.delete", task="none").code, "400/101")
        self.assertEqual(self.call("tasks.delete", task="pub").code, "403/21")
        self.assertEqual(self.call("tasks.delete", task="pub", force=True).code, "403/21")
        self.assertEqual(self.call("tasks.delete").code, "400/12")
        self.assertEqual(self.left(), ["pub"])


class Many(DoubleCase):
    def test_failures_are_listed_under_a_status_of_200(self):
        self.start([seed.task("t1"), seed.task("live", archived=False), seed.task("pub", company="")])
        answer = self.call("tasks.delete_many", ids=["t1", "live", "none", "pub"], return_file_urls=True)
        self.assertEqual(answer.code, "200/0")
        self.assertEqual([one["id"] for one in answer.data["succeeded"]], ["t1"])
        wanted = {"id", "deleted", "updated_children", "updated_models", "deleted_models", "urls"}
        self.assertEqual(set(answer.data["succeeded"][0]), wanted)
        failed = {one["id"]: one["error"] for one in answer.data["failed"]}
        codes = {key: error["codes"] for key, error in failed.items()}
        self.assertEqual(codes, {"live": [400, 123], "none": [400, 101], "pub": [403, 21]})
        self.assertTrue(all({"codes", "msg", "data"} == set(error) for error in failed.values()))
        self.assertEqual(self.left(), ["live", "pub"])

    def test_no_ids_are_400_12(self):
        self.start()
        self.assertEqual(self.call("tasks.delete_many", ids=[]).code, "400/12")
        self.assertEqual(self.call("tasks.delete_many").code, "400/12")


class Effects(DoubleCase):
    def test_children_get_the_name_of_a_deleted_parent(self):
        self.start([seed.task("t1"), seed.task("t2", parent="t1"), seed.task("t3", parent="t1")])
        self.assertEqual(self.call("tasks.delete", task="t1").data["updated_children"], 2)
        parents = {task["parent"] for task in self.double.state()["tasks"]}
        self.assertEqual(parents, {DELETED + "t1"})

    def test_what_becomes_of_each_kind_of_model(self):
        user = seed.task("user", archived=False, models={"input": [{"name": "m", "model": "used"}]})
        models = [seed.model("draft", "t1"), seed.model("used", "t1"), seed.model("ready", "t1", ready=True)]
        self.start([seed.task("t1"), user], models)
        data = self.call("tasks.delete", task="t1", force=True).data
        self.assertEqual((data["deleted_models"], data["updated_models"]), (1, 1))
        left = {model["id"]: model["task"] for model in self.double.state()["models"]}
        self.assertEqual(left, {"used": None, "ready": DELETED + "t1"})

    def test_models_are_kept_when_the_call_says_so(self):
        self.start([seed.task("t1")], [seed.model("draft", "t1")])
        data = self.call("tasks.delete", task="t1", delete_output_models=False).data
        self.assertEqual((data["deleted_models"], data["updated_models"]), (0, 1))
        self.assertEqual(self.double.state()["models"][0]["task"], DELETED + "t1")

    def urls_of_a_task(self, **more):
        """Deletes a task with every kind of URL, and gives those that the server says."""
        artifacts = [
            {"key": "a", "mode": "output", "uri": "file:///a"},
            {"key": "b", "mode": "output", "uri": "s3://bucket/b"},
            {"key": "c", "mode": "input", "uri": "s3://bucket/input"},
        ]
        models = [
            seed.model("draft", "t1", "{files}/draft"),
            seed.model("used", "t1", "{files}/used"),
            seed.model("ready", "t1", "{files}/ready", ready=True),
        ]
        user = seed.task("user", models={"input": [{"name": "m", "model": "used"}]})
        events = {"t1": [seed.sample("{files}/image"), seed.plot("{files}/p1", "{files}/p2")]}
        self.start([seed.task("t1", artifacts=artifacts), user], models, events, **more)
        data = self.call("tasks.delete", task="t1", force=True, return_file_urls=True).data["urls"]
        files = self.double.files.url + "/"
        return {key: [url.replace(files, "") for url in urls] for key, urls in data.items()}

    def test_urls_are_output_artifacts_and_unused_drafts_and_never_events(self):
        urls = self.urls_of_a_task()
        self.assertEqual(urls["artifact_urls"], ["file:///a", "s3://bucket/b"])
        self.assertEqual(urls["model_urls"], ["draft"])
        self.assertEqual(urls["event_urls"], [])

    def test_servers_before_1_17_named_the_events(self):
        self.assertEqual(self.urls_of_a_task(version="2.30")["event_urls"], ["image", "p1", "p2"])

    def test_urls_come_only_when_asked_for(self):
        self.start([seed.task("t1", artifacts=["s3://bucket/a"])])
        self.assertIsNone(self.call("tasks.delete", task="t1").data["urls"])

    def test_steps_of_a_pipeline_go_when_asked_but_their_urls_are_not_named(self):
        step = seed.task("step", parent="t1", artifacts=["s3://bucket/step"])
        self.start([seed.task("t1", system_tags=["archived", "pipeline"]), step])
        both = {"include_pipeline_steps": True, "return_file_urls": True}
        data = self.call("tasks.delete", task="t1", **both).data
        self.assertEqual(self.left(), [])
        self.assertEqual(data["urls"]["artifact_urls"], [])

    def test_steps_of_a_pipeline_stay_by_default(self):
        self.start([seed.task("t1", system_tags=["archived", "pipeline"]), seed.task("step", parent="t1")])
        self.call("tasks.delete", task="t1")
        self.assertEqual(self.left(), ["step"])


class Queue(DoubleCase):
    ARTIFACTS = ("s3://b/a", "gs://b/a", "azure://b/a", "{files}/a", "file:///a", "http://elsewhere/a")

    def queued(self, more=None, **body):
        task, model = seed.task("t1", artifacts=self.ARTIFACTS), seed.model("m", "t1", "s3://b/m")
        self.start([task], [model], **(more or {}))
        self.call("tasks.delete", task="t1", **body)
        return sorted(self.double.state()["queued_urls"])

    def test_object_stores_are_queued_and_files_only_with_a_known_prefix(self):
        stores = ["azure://b/a", "gs://b/a", "s3://b/a", "s3://b/m"]
        self.assertEqual(self.queued(), stores)
        known = {"async_delete": {"prefixes": ["{files}"]}}
        self.assertEqual(self.queued(known), sorted([*stores, f"{self.double.files.url}/a"]))

    def test_nothing_is_queued_when_off_or_not_wanted_or_too_old(self):
        self.assertEqual(self.queued(delete_external_artifacts=False), [])
        self.assertEqual(self.queued({"async_delete": {"enabled": False}}), [])
        self.assertEqual(self.queued({"version": "2.20"}), [])

    def test_the_file_of_a_kept_model_is_queued_all_the_same(self):
        self.assertIn("s3://b/m", self.queued(delete_output_models=False))
        self.assertEqual(self.left("models"), ["m"])


class Models(DoubleCase):
    def test_models_are_found_by_task_by_uri_and_by_id(self):
        models = [seed.model("m1", "t1", "u1"), seed.model("m2", None, "u2", company="")]
        self.start([seed.task("t1")], models)

        def ids(**body):
            return [m["id"] for m in self.call("models.get_all", **body).data["models"]]

        self.assertEqual(ids(task=["t1"]), ["m1"])
        self.assertEqual(ids(uri=["u2", "none"]), ["m2"])
        self.assertEqual(ids(uri=["u"]), [])
        self.assertEqual(ids(id=["m1"]), ["m1"])
        self.assertEqual(ids(ready=True), [])
        self.assertEqual(ids(page=1, page_size=1, order_by=["id"]), ["m2"])

    def test_a_deleted_model_answers_its_uri_and_ready_is_not_asked(self):
        self.start([seed.task("t1")], [seed.model("m1", "t1", "u1", ready=True)])
        self.assertEqual(self.call("models.delete", model="m1").data, {"deleted": True, "url": "u1"})
        self.assertEqual(self.left("models"), [])

    def test_an_unknown_model_is_400_201(self):
        self.start()
        self.assertEqual(self.call("models.delete", model="none").code, "400/201")

    def test_a_model_in_use_is_400_205_without_force(self):
        user = seed.task("user", models={"input": [{"name": "m", "model": "m1"}]})
        self.start([user], [seed.model("m1")])
        self.assertEqual(self.call("models.delete", model="m1").code, "400/205")
        self.assertEqual(self.call("models.delete", model="m1", force=True).code, "200/0")
        self.assertEqual(self.double.state()["tasks"][0]["models"]["input"][0]["model"], DELETED + "m1")

    def test_a_model_of_a_published_task_is_400_206_without_force(self):
        named = {"output": [{"name": "m", "model": "m1"}]}
        self.start([seed.task("t1", status="published", models=named)], [seed.model("m1", "t1")])
        self.assertEqual(self.call("models.delete", model="m1").code, "400/206")
        self.assertEqual(self.call("models.delete", model="m1", force=True).code, "200/0")
        self.assertEqual(self.double.state()["tasks"][0]["models"]["output"][0]["model"], DELETED + "m1")


if __name__ == "__main__":
    unittest.main()
