"""Shows that the official SDK does with the double what it was seen to do with the real server.

Each defect of the old cleanup that lies in the SDK or in its sequence has a test here. What the SDK cannot
work against is not a double; where a defect does not show, the double is not faithful.
"""

import json
import unittest

import running
import seed
from defects import image, own_folder


class Defects(unittest.TestCase):
    """One run over one state, in which each test looks at its own task."""

    python = running.PYTHON
    version = ""

    @classmethod
    def setUpClass(cls):
        running.need_sdk(cls.python)
        place = running.Place()
        cls.addClassCleanup(place.close)
        place.start_with_defects()
        cls.place = place
        cls.run_ = place.run(cls.python)

    def assert_gone(self, task, *files):
        self.assertNotIn(task, self.run_.tasks)
        self.assertEqual([path for path in files if path in self.run_.files], [])

    def assert_kept(self, task, *files):
        self.assertIn(task, self.run_.tasks)
        self.assertEqual([path for path in files if path not in self.run_.files], [])

    def test_the_sdk_needs_no_endpoint_that_the_double_lacks(self):
        unknown = [r["path"] for r in self.run_.requests if r["host"] == "api" and r["status"] in (404, 405)]
        self.assertEqual(unknown, [])

    def test_the_sdk_deletes_100_of_250_debug_images(self):
        self.assertNotIn("many-images", self.run_.tasks)
        folder = own_folder("many-images")
        left = [path for path in self.run_.files if path.startswith(f"{folder}/")]
        self.assertEqual(len(left), 150)
        # The list of the server does not know them either.
        self.assertEqual(self.run_.state["queued_urls"], [])

    def test_the_sdk_deletes_the_first_image_of_a_plot_only(self):
        self.assert_gone("plot", image("plot", 0))
        self.assertLessEqual({image("plot", 1), image("plot", 2)}, self.run_.files)

    def test_the_sdk_deletes_an_image_that_a_live_task_shows(self):
        self.assert_gone("with-logo", "logo.png")
        self.assertIn("user-of-logo", self.run_.tasks)

    def test_the_sdk_deletes_a_published_model_and_its_file(self):
        self.assert_gone("with-ready", "with-ready/m.pt")
        self.assertNotIn("ready", self.run_.models)

    def test_the_sdk_deletes_a_file_that_a_live_task_and_a_model_use(self):
        self.assert_gone("shared", "shared/a.bin")
        self.assertIn("user-of-shared", self.run_.tasks)
        self.assertIn("user-of-shared", self.run_.models)

    def test_the_sdk_deletes_the_parent_of_a_live_dataset(self):
        self.assert_gone("dataset-1", "dataset-1/data.zip")
        self.assert_kept("dataset-2", "dataset-2/data.zip")

    def test_the_sdk_removes_local_paths_on_its_own_machine(self):
        self.assert_gone("local-url")
        self.assert_gone("local-path")
        left = {path.name for path in self.place.local.iterdir()}
        # 1.7.0 looks for them in a folder of its working directory.
        self.assertEqual(left, {"url.bin", "path.bin"} if self.version == "1.7.0" else set())

    def test_the_sdk_deletes_a_file_on_another_host(self):
        self.assert_gone("elsewhere")
        self.assertEqual(self.place.other.files.left(), [])

    def test_the_sdk_sends_its_token_to_no_other_host(self):
        lines = self.place.other.log.read_text().splitlines()
        requests = [json.loads(line) for line in lines]
        self.assertEqual([request["path"] for request in requests], ["/elsewhere.bin"])
        self.assertEqual([request["authorization"] for request in requests], [False])

    def test_the_sdk_fails_on_an_image_without_a_url(self):
        self.assert_kept("no-url", "no-url/a.bin")
        self.assertIn("no-url", self.run_.not_deleted)
        self.assertIn("Task deletion failed: 'url'", self.run_.messages)

    def test_the_sdk_deletes_running_and_queued_tasks(self):
        self.assert_gone("in_progress", "in_progress/a.bin")
        self.assert_gone("queued", "queued/a.bin")

    def test_the_sdk_keeps_a_published_task_and_calls_it_a_failure(self):
        self.assert_kept("published", "published/a.bin")
        self.assertIn("published", self.run_.not_deleted)
        self.assertIn(f"Cannot delete published task {seed.identifier('published')}", self.run_.messages)

    def test_the_sdk_forgets_a_file_that_it_could_not_delete(self):
        self.assertIn("refused/a.bin", self.run_.files)
        self.assert_gone("refused", "refused/b.bin")
        self.assertIn("refused", self.run_.deleted)

    def test_the_sdk_leaves_empty_folders(self):
        self.assertTrue((self.place.files.root / "completed").is_dir())

    def test_the_sdk_calls_a_missing_file_a_failure(self):
        self.assert_gone("missing", "missing/b.bin")
        failed = self.run_.messages.partition("Failed deleting the following URIs")[2]
        self.assertIn("/missing/a.bin", failed)

    def test_the_sdk_always_deletes_with_force(self):
        forces = {call["body"].get("force") for call in self.run_.calls("tasks.delete")}
        self.assertEqual(forces, {True})

    def test_the_sdk_calls_the_server_five_times_a_task_and_once_a_file(self):
        for name, times in {"tasks.get_by_id": 2, "tasks.delete": 1, "events.get_task_events": 2}.items():
            tasks = [call["body"]["task"] for call in self.run_.calls(name)]
            self.assertEqual(tasks.count(seed.identifier("completed")), times, name)
        models = [call["body"].get("task") for call in self.run_.calls("models.get_all")]
        self.assertEqual(models.count([seed.identifier("completed")]), 1)
        deletes = [r for r in self.run_.requests if r["host"] == "files" and "/completed/" in r["path"]]
        self.assertEqual(len(deletes), 1)

    def test_the_sdk_keeps_what_is_not_selected(self):
        for task in ("live", "young", "hidden"):
            self.assert_kept(task, f"{task}/a.bin")
            self.assertNotIn(task, self.run_.not_deleted)

    def test_the_sdk_fails_on_a_public_task(self):
        self.assert_kept("public", "public/a.bin")
        self.assertIn("public", self.run_.not_deleted)

    def test_the_sdk_deletes_a_draft_model_and_keeps_one_in_use(self):
        self.assert_gone("with-draft", "with-draft/m.pt")
        self.assertNotIn("draft", self.run_.models)
        self.assertNotIn("with-used", self.run_.tasks)
        # To an SDK that speaks a version before 2.13 it is the output model, whose file always goes.
        self.assertEqual("with-used/m.pt" in self.run_.files, self.version != "0.17.4")
        self.assertIn("used", self.run_.models)

    def test_the_sdk_keeps_input_artifacts(self):
        self.assert_gone("inputs")
        self.assertIn("inputs/a.bin", self.run_.files)

    def test_the_sdk_deletes_ordinary_tasks_whole(self):
        for task in ("created", "completed", "failed", "stopped", "closed", "parent", "odd-plot"):
            self.assert_gone(task, f"{task}/a.bin")
        self.assertEqual(self.run_.tasks["child"]["parent"], "__DELETED__" + seed.identifier("parent"))

    def test_the_sdk_sends_its_token_to_both_servers(self):
        self.assertTrue(all(request["authorization"] for request in self.run_.requests))


def load_tests(loader, tests, _pattern):
    """The same tests for each older SDK that is installed."""
    for version, python in running.older().items():
        name = f"Defects_{version.replace('.', '_')}"
        own = type(name, (Defects,), {"python": python, "version": version})
        tests.addTests(loader.loadTestsFromTestCase(own))
    return tests


class Pages(unittest.TestCase):
    def setUp(self):
        running.need_sdk()
        self.place = running.Place()
        self.addCleanup(self.place.close)

    def test_the_sdk_sequence_skips_a_page_while_it_deletes(self):
        self.place.start(seed.state([seed.task(f"t{n:03}", 40 + n) for n in range(250)]))
        run = self.place.run()
        self.assertEqual(run.result["pages"], [100, 50])
        self.assertEqual(len(run.tasks), 100)
        listings = [call["body"] for call in run.calls("tasks.get_all") if "status_changed" in call["body"]]
        self.assertEqual([body["page"] for body in listings], [0, 1])
        for body in listings:
            self.assertEqual(body["system_tags"], ["archived"])
            self.assertRegex(body["status_changed"][0], r"^<\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?$")
            self.assertEqual((body["order_by"], body["page_size"]), (["-last_update"], 100))

    def test_the_sdk_removes_no_more_than_100_tasks_when_100_cannot_go(self):
        published = [seed.task(f"p{n:03}", 31, status="published") for n in range(120)]
        self.place.start(seed.state(published + [seed.task(f"t{n:03}", 40) for n in range(60)]))
        run = self.place.run()
        self.assertEqual(run.result["pages"], [100, 80])
        self.assertEqual(len(run.not_deleted), 120)

    def test_the_sdk_takes_the_whole_list_when_the_server_drops_the_date(self):
        self.place.start(seed.state([seed.task("old", 40), seed.task("young", 1)]))
        self.place.double.faults.set([{"match": "tasks.get_all", "do": "drop_filter"}])
        self.assertEqual(self.place.run().tasks, {})


class ByServer(unittest.TestCase):
    """The sequence of the service before 1.0.3: the server deletes, then folders are removed."""

    def run_with(self, version, *more, python=running.PYTHON):
        running.need_sdk(python)
        self.place = running.Place()
        self.addCleanup(self.place.close)
        files = self.place.files
        files.add("project/task.t1/artifacts/a.bin")
        files.add("project/below/task.t1/artifacts/a.bin")
        files.add("project/task.t2/artifacts/a.bin")
        tasks = [seed.task("t1", name="t1", status="created"), seed.task("t2", name="t2")]
        self.place.start(seed.state(tasks, version=version))
        return self.place.run(python, "server-delete", more)

    def run_old(self, *more):
        """An old server wants an old SDK."""
        return self.run_with("2.9", *more, python=running.need_older("0.17.4"))

    def test_folders_one_level_below_the_root_go_and_nested_ones_stay(self):
        run = self.run_with("2.34")
        self.assertEqual(run.tasks, {})
        self.assertEqual(run.files, {"project/below/task.t1/artifacts/a.bin"})
        self.assertFalse((self.place.files.root / "project/task.t1").exists())

    def test_an_old_server_keeps_what_is_no_draft_without_force(self):
        run = self.run_old()
        self.assertEqual(set(run.tasks), {"t2"})
        self.assertIn("project/task.t2/artifacts/a.bin", run.files)
        self.assertEqual({call["body"].get("force") for call in run.calls("tasks.delete")}, {False})

    def test_an_old_server_takes_everything_with_force(self):
        self.assertEqual(self.run_old("--force").tasks, {})


if __name__ == "__main__":
    unittest.main()
