"""What the cleanup relies on, asked of a server through its API alone: the double, or a real server.

`SWEEPER_TESTS_CLEARML_API` and `SWEEPER_TESTS_CLEARML_FILES` name the addresses of a real server, such as
`http://HOST:PORT`, and `SWEEPER_TESTS_CLEARML_KEY` and `SWEEPER_TESTS_CLEARML_SECRET` the credentials of a
user of it. The tests make records and files there, and remove what they made. Use a server for tests, version
1.17 or later.
"""

import json
import os
import secrets
import tempfile
import unittest
from urllib.parse import quote

import seed
from client import basic, send
from double import Double

PLACE = "SWEEPER_TESTS_CLEARML_"


def setUpModule():
    """The servers that all tests here use."""
    global API, FILES, KEY
    if os.environ.get(PLACE + "API"):
        API, FILES = (os.environ[PLACE + name].rstrip("/") for name in ("API", "FILES"))
        KEY = basic(os.environ[PLACE + "KEY"], os.environ[PLACE + "SECRET"])
        return
    directory = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(directory.cleanup)
    double = Double(seed.state(), directory.name)
    unittest.addModuleCleanup(double.stop)
    API, FILES, KEY = double.api.url, double.files.url, basic("key", "secret")


class Contract(unittest.TestCase):
    def setUp(self):
        token = send(API, "POST", "/auth.login", "{}", KEY).data["token"]
        self.token = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.mark = "sweeper-test-" + secrets.token_hex(8)
        self.tasks = []
        self.addCleanup(self.clean)

    def clean(self):
        if self.tasks:
            self.call("tasks.delete_many", ids=self.tasks, force=True)

    def call(self, endpoint, **body):
        return send(API, "POST", f"/{endpoint}", json.dumps(body), self.token)

    def task(self, *steps, archived=True, **more):
        """A new task, after these changes of its status."""
        tags = {"system_tags": ["archived"] if archived else [], "tags": [self.mark]}
        task = self.call("tasks.create", name="sweeper test", type="testing", **tags, **more).data["id"]
        self.tasks.append(task)
        for step in steps:
            self.assertEqual(self.call(f"tasks.{step}", task=task, force=True).code, "200/0", step)
        return task

    def model(self, task, ready=False):
        body = {"name": "sweeper test", "uri": f"file:///none/{self.mark}", "task": task, "ready": ready}
        model = self.call("models.create", **body)
        self.addCleanup(self.call, "models.delete", model=model.data["id"], force=True)
        return model.data["id"]

    def mine(self, **body):
        """The tasks of this test that a listing gives."""
        return [task["id"] for task in self.call("tasks.get_all", tags=[self.mark], **body).data["tasks"]]


class Calls(Contract):
    def test_who_may_call(self):
        def code(headers):
            return send(API, "POST", "/tasks.get_all", "{}", headers).code

        self.assertEqual(code({}), "401/20")
        self.assertEqual(code({"Authorization": "Bearer x.y.z"}), "401/30")
        self.assertEqual(send(API, "POST", "/auth.login", "{}", basic("no", "such")).code, "401/22")

    def test_what_cannot_be_called(self):
        self.assertEqual(self.call("tasks.no_such").status, 404)
        self.assertEqual(self.call("auth.login", expiration_sec=31_536_001).status, 400)
        self.assertEqual(self.call("tasks.delete_many", ids=[]).code, "400/12")
        self.assertEqual(self.call("tasks.get_all", only_fields=["no_such"]).code, "400/14")

    def test_an_unknown_task_has_a_code_in_each_call(self):
        none = secrets.token_hex(16)
        self.assertEqual(self.call("tasks.get_by_id", task=none).code, "400/101")
        self.assertEqual(self.call("tasks.delete", task=none).code, "400/101")
        self.assertEqual(self.call("tasks.get_all", id=[none]).data["tasks"], [])
        answer = self.call("tasks.delete_many", ids=[none])
        self.assertEqual(answer.code, "200/0")
        self.assertEqual(answer.data["failed"][0]["error"]["codes"], [400, 101])
        self.assertEqual(self.call("models.delete", model=none).code, "400/201")


class Listings(Contract):
    def test_a_date_that_cannot_be_read_is_no_filter(self):
        task = self.task()
        for text in ("<2000-01-01 00:00:00.000000", "<2000-01-01T00:00:00Z", "<2000-01-01T00:00:00+02:00"):
            self.assertEqual(self.mine(status_changed=[text]), [], text)
        for text in ("<2100-01-01 00:00:00", "<946684800", "<946684800000", "<no date"):
            self.assertEqual(self.mine(status_changed=[text]), [task], text)

    def test_hidden_tasks_are_left_out(self):
        hidden = self.call("tasks.create", name="sweeper test", type="testing", system_tags=["hidden"])
        self.tasks.append(hidden.data["id"])
        ids = {"id": [hidden.data["id"]], "only_fields": ["id"]}
        self.assertEqual(len(self.call("tasks.get_all", **ids).data["tasks"]), 1)
        self.assertEqual(self.mine(system_tags=["hidden"]), [])

    def test_pages_and_scrolls_end(self):
        tasks = sorted(self.task() for _ in range(5))
        pages = [self.mine(page=n, page_size=2, order_by=["id"]) for n in range(4)]
        self.assertEqual(pages, [tasks[:2], tasks[2:4], tasks[4:], []])
        seen, scroll = [], None
        for _ in range(4):
            body = {"tags": [self.mark], "size": 2, "scroll_id": scroll, "order_by": ["id"]}
            data = self.call("tasks.get_all", **body).data
            seen.append([task["id"] for task in data["tasks"]])
            scroll = data["scroll_id"]
        self.assertEqual(seen, pages)

    def test_lists_have_operators(self):
        task = self.task()
        self.assertEqual(self.mine(system_tags=["__$all", "archived", "__$not", "dataset"]), [task])
        self.assertEqual(self.mine(system_tags=["__$all", "archived", "dataset"]), [])


class Deletions(Contract):
    def test_archived_tasks_in_any_status_go_without_force(self):
        for steps in ((), ("started",), ("started", "stopped"), ("started", "stopped", "publish")):
            self.assertEqual(self.call("tasks.delete", task=self.task(*steps)).code, "200/0", steps)

    def test_live_tasks_go_as_drafts_or_by_force(self):
        self.assertEqual(self.call("tasks.delete", task=self.task(archived=False)).code, "200/0")
        task = self.task("started", archived=False)
        self.assertEqual(self.call("tasks.delete", task=task).code, "400/123")
        self.assertEqual(self.call("tasks.delete", task=task, force=True).code, "200/0")

    def test_published_children_and_models_ask_for_force(self):
        parent = self.task("started", "stopped")
        child = self.task("started", "stopped", "publish", archived=False, parent=parent)
        self.assertEqual(self.call("tasks.delete", task=parent).code, "400/123")
        self.assertEqual(self.call("tasks.delete", task=parent, force=True).code, "200/0")
        left = self.call("tasks.get_by_id", task=child).data["task"]
        self.assertEqual(left["parent"], f"__DELETED__{parent}")
        maker = self.task()
        model = self.model(maker, ready=True)
        self.assertEqual(self.call("tasks.delete", task=maker).code, "400/123")
        self.assertEqual(self.call("tasks.delete", task=maker, force=True).code, "200/0")
        left = self.call("models.get_all", id=[model]).data["models"][0]
        self.assertEqual(left["task"], f"__DELETED__{maker}")

    def test_drafts_go_along_and_models_in_use_stay(self):
        maker = self.task()
        draft, used = self.model(maker), self.model(maker)
        self.task(models={"input": [{"name": "used", "model": used}]})
        self.assertEqual(self.call("models.delete", model=used).code, "400/205")
        data = self.call("tasks.delete", task=maker).data
        self.assertEqual(data["deleted_models"], 1)
        left = self.call("models.get_all", id=[draft, used]).data["models"]
        self.assertEqual([(model["id"], model.get("task")) for model in left], [(used, None)])

    def test_urls_are_output_artifacts_and_never_events(self):
        modes = ("output", "input")
        artifacts = [{"key": m, "type": "custom", "mode": m, "uri": f"file:///none/{m}"} for m in modes]
        task = self.task(execution={"artifacts": artifacts})
        image = {"type": "training_debug_image", "metric": "m", "variant": "v", "iter": 0}
        added = self.call("events.add", task=task, url="file:///none/event", **image)
        self.assertEqual(added.code, "200/0")
        wishes = {"return_file_urls": True, "delete_external_artifacts": False}
        urls = self.call("tasks.delete", task=task, **wishes).data["urls"]
        self.assertEqual(urls["artifact_urls"], ["file:///none/output"])
        self.assertEqual(urls["event_urls"], [])

    def test_many_are_deleted_and_failures_listed(self):
        good, live = self.task(), self.task("started", archived=False)
        data = self.call("tasks.delete_many", ids=[good, live]).data
        self.assertEqual([one["id"] for one in data["succeeded"]], [good])
        failed = {one["id"]: one["error"]["codes"] for one in data["failed"]}
        self.assertEqual(failed, {live: [400, 123]})


class Files(Contract):
    NAMES = ("a+b.bin", "a b.bin", "e%20f.bin", "e f.bin", "k#1.bin", "ü.bin")

    def upload(self, name):
        path, line = f"{self.mark}/{name}", secrets.token_hex(16)
        head = f'--{line}\r\nContent-Disposition: form-data; name="{path}"; filename="x"\r\n\r\n'
        body = (head + f"x\r\n--{line}--\r\n").encode()
        headers = {**self.token, "Content-Type": f"multipart/form-data; boundary={line}"}
        self.assertEqual(send(FILES, "POST", "/", body, headers).status, 200)
        self.addCleanup(self.delete, name)

    def path(self, name):
        return quote(f"{self.mark}/{name}")

    def delete(self, name):
        return send(FILES, "DELETE", "/" + self.path(name), None, self.token)

    def left(self):
        def is_there(name):
            return send(FILES, "HEAD", "/" + self.path(name), None, self.token).status == 200

        return [name for name in self.NAMES if is_there(name)]

    def test_one_file_is_deleted_exactly(self):
        for name in self.NAMES:
            for other in self.NAMES:
                self.upload(other)
            self.assertEqual(self.delete(name).status, 200, name)
            self.assertEqual(self.left(), [n for n in self.NAMES if n != name])
            self.assertEqual(self.delete(name).status, 404)

    def test_many_files_are_deleted_exactly(self):
        for name in self.NAMES:
            for other in self.NAMES:
                self.upload(other)
            body = json.dumps({"files": [self.path(name), f"{self.mark}/none"]})
            answer = send(FILES, "POST", "/delete_many", body, self.token).json
            self.assertEqual(answer["deleted"], {self.path(name): f"{self.mark}/{name}"})
            self.assertEqual(answer["errors"], {"Not found": [f"{self.mark}/none"]})
            self.assertEqual(self.left(), [n for n in self.NAMES if n != name])

    def test_a_token_is_needed(self):
        self.assertEqual(send(FILES, "DELETE", f"/{self.mark}/none").status, 401)
        self.assertEqual(send(FILES, "GET", "/").body, b"OK")


if __name__ == "__main__":
    unittest.main()
