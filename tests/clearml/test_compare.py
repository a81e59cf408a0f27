"""Compares what is left after `sweeper clearml run` with what the official SDK leaves of the same state.

Both get a double and files of their own, made from one seed. The tasks, models and files that are left must
be the same, but for the differences that are listed here by name: each is a defect of the old cleanup, or a
guard against one.
"""

import unittest

import running
import seed
from defects import image, own_folder

# What only one of the two leaves: kind, name, and who leaves it. A name with `/` at its end is a folder.
LISTED = {
    "debug_images_after_the_first_100_go": [("files", f"{own_folder('many-images')}/", "sdk")],
    "every_image_of_a_plot_goes": [("files", image("plot", n), "sdk") for n in (1, 2)],
    "an_image_that_a_live_task_shows_stays": [("files", "logo.png", "ours")],
    "an_image_without_a_url_does_not_keep_its_task": [
        ("tasks", "no-url", "sdk"),
        ("files", "no-url/a.bin", "sdk"),
    ],
    "a_published_model_stays_with_its_task_and_file": [
        ("tasks", "with-ready", "ours"),
        ("models", "ready", "ours"),
        ("files", "with-ready/m.pt", "ours"),
    ],
    "a_file_that_a_live_task_and_a_model_use_stays": [("files", "shared/a.bin", "ours")],
    "a_dataset_that_a_live_one_is_made_from_stays": [
        ("tasks", "dataset-1", "ours"),
        ("files", "dataset-1/data.zip", "ours"),
    ],
    "running_and_queued_tasks_stay": [
        ("tasks", "in_progress", "ours"),
        ("files", "in_progress/a.bin", "ours"),
        ("tasks", "queued", "ours"),
        ("files", "queued/a.bin", "ours"),
    ],
}

# What is asked of the server, and nothing else.
ENDPOINTS = {
    "auth.login",
    "tasks.get_all",
    "tasks.get_by_id",
    "tasks.delete",
    "tasks.delete_many",
    "events.get_task_events",
    "models.get_all",
    "models.delete",
    "projects.get_all",
    "server.info",
}


def setUpModule():
    running.need_sdk()
    running.need_sweeper()


def world(case, make=None):
    """A place with the state of all defects, or with another one that is made with its files."""
    place = running.Place()
    case.addClassCleanup(place.close)
    if make:
        place.start(make(place.files))
    else:
        place.start_with_defects()
    return place


def differences(sdk, ours):
    """What only one of the two leaves. The debug images count as one folder."""
    found = set()
    for kind in ("tasks", "models", "files"):
        of_sdk, of_ours = set(getattr(sdk, kind)), set(getattr(ours, kind))
        found |= {(kind, name, "sdk") for name in of_sdk - of_ours}
        found |= {(kind, name, "ours") for name in of_ours - of_sdk}
    folder = f"{own_folder('many-images')}/"
    return {(kind, folder if name.startswith(folder) else name, who) for kind, name, who in found}


class Defects(unittest.TestCase):
    """One run of each over the state in which every defect shows."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.sdk = world(cls).run()
        cls.place = world(cls)
        cls.ours = cls.place.sweep()

    def test_there_is_no_other_difference(self):
        listed = {difference for some in LISTED.values() for difference in some}
        self.assertEqual(differences(self.sdk, self.ours), listed)

    def test_parents_and_tasks_of_what_is_left_are_the_same(self):
        def links(end):
            tasks = {name: task["parent"] for name, task in end.tasks.items()}
            models = {name: model.get("task") for name, model in end.models.items()}
            return {**tasks, **{f"model {name}": task for name, task in models.items()}}

        sdk, ours = links(self.sdk), links(self.ours)
        both = sdk.keys() & ours.keys()
        self.assertIn("child", both)
        self.assertEqual({name: ours[name] for name in both}, {name: sdk[name] for name in both})

    def test_local_paths_stay(self):
        local = sorted(path.name for path in self.place.local.iterdir())
        self.assertEqual(local, ["path.bin", "url.bin"])

    def test_no_other_host_is_asked(self):
        self.assertEqual(self.place.other.files.left(), ["elsewhere.bin"])
        self.assertEqual(self.place.other.log.read_text(), "")

    def test_a_file_that_cannot_be_deleted_is_a_failure_and_named(self):
        self.assertEqual(self.ours.code, 1, self.ours.messages)
        self.assertIn("refused/a.bin", self.ours.messages)

    def test_a_missing_file_and_a_published_task_are_no_failures(self):
        failed = [line for line in self.ours.messages.splitlines() if "failed" in line.lower()]
        published = seed.identifier("published")
        wrong = [line for line in failed if "missing/a.bin" in line or published in line]
        self.assertEqual(wrong, [])

    def test_the_server_is_never_told_to_use_force_or_to_delete_files_too(self):
        for name in ("tasks.delete", "tasks.delete_many"):
            for call in self.ours.calls(name):
                self.assertFalse(call["body"].get("force"))
                self.assertIs(call["body"].get("delete_external_artifacts"), False)
        self.assertEqual(self.ours.state["queued_urls"], [])

    def test_nothing_is_asked_of_the_server_but_what_is_known(self):
        api = [request for request in self.ours.requests if request["host"] == "api"]
        self.assertLessEqual({request["path"].rpartition("/")[2] for request in api}, ENDPOINTS)
        self.assertEqual({request["method"] for request in api}, {"POST"})


def _listed(name):
    def test(self):
        self.assertLessEqual(set(LISTED[name]), differences(self.sdk, self.ours))

    return test


for _name in LISTED:
    setattr(Defects, f"test_{_name}", _listed(_name))


class Guards(unittest.TestCase):
    """With the guards off, only what is plainly a fault of the old cleanup differs."""

    FLAGS = (
        "--force-delete",
        "--delete-published-models",
        "--delete-running",
        "--delete-dataset-parents",
        "--delete-shared-files",
    )

    def test_without_guards_only_faults_differ(self):
        sdk, ours = world(type(self)).run(), world(type(self)).sweep(*self.FLAGS)
        faults = [difference for some in LISTED.values() for difference in some if difference[2] == "sdk"]
        self.assertEqual(differences(sdk, ours), set(faults))


class Again(unittest.TestCase):
    def test_the_next_run_deletes_what_failed(self):
        place = world(type(self))
        first = place.sweep()
        self.assertIn("refused/a.bin", first.files)
        place.double.faults.set([])
        second = place.sweep()
        self.assertEqual(first.files - second.files, {"refused/a.bin"})
        self.assertEqual(first.tasks.keys(), second.tasks.keys())
        third = place.sweep()
        self.assertEqual(third.files, second.files)


class Pages(unittest.TestCase):
    def compare(self, state):
        place, other = world(type(self), lambda _: state), world(type(self), lambda _: state)
        return place.run(), other.sweep()

    def test_no_page_is_skipped(self):
        tasks = [seed.task(seed.identifier(f"t{n}"), 40 + n / 100, name=f"t{n}") for n in range(250)]
        sdk, ours = self.compare(seed.state(tasks))
        self.assertEqual((len(sdk.tasks), len(ours.tasks)), (100, 0))

    def test_tasks_that_cannot_go_shift_no_page(self):
        def task(name, status):
            return seed.task(seed.identifier(name), 40, name=name, status=status)

        kept = [task(f"p{n}", "published") for n in range(120)]
        sdk, ours = self.compare(seed.state([*kept, *(task(f"t{n}", "completed") for n in range(250))]))
        self.assertEqual(set(ours.tasks), {f"p{n}" for n in range(120)})
        self.assertGreater(len(sdk.tasks), 120)

    def test_a_dropped_date_filter_deletes_nothing(self):
        tasks = [seed.task(seed.identifier(n), age, name=n) for n, age in (("old", 40), ("young", 1))]
        place = world(type(self), lambda _: seed.state(tasks))
        place.double.faults.set([{"match": "tasks.get_all", "do": "drop_filter"}])
        self.assertEqual(place.sweep().tasks.keys(), {"old", "young"})


class Requests(unittest.TestCase):
    def test_tasks_and_files_go_in_batches(self):
        def make(files):
            return seed.volume(files.root, tasks=100, artifacts=5, samples=20)

        sdk, ours = world(type(self), make).run(), world(type(self), make).sweep()
        for end in (sdk, ours):
            self.assertEqual((end.tasks, end.files), ({}, set()))
        # The SDK needs 31 a task. Of ours only those for events are for one task: a page of images and the
        # empty one after it, and plots.
        self.assertGreater(len(sdk.requests), 100 * 30)
        self.assertLessEqual(len(ours.calls("events.get_task_events")), 100 * 3)
        others = len(ours.requests) - len(ours.calls("events.get_task_events"))
        self.assertLess(others, 30)


class ByServer(unittest.TestCase):
    """Beside the sequence of the service before 1.0.3, which removed folders from the mounted root."""

    def test_folders_go_at_any_depth_and_empty_ones_with_them(self):
        task = seed.identifier("t1")
        paths = {f"{project}/task.{task}/artifacts/a/a.bin" for project in ("top", "top/below")}

        def make(files):
            uris = [files.add(path) for path in sorted(paths)]
            files.add("top/keep.bin")
            return seed.state([seed.task(task, name="task", status="created", artifacts=uris)])

        sdk = world(type(self), make).run(sequence="server-delete")
        place = world(type(self), make)
        ours = place.sweep("--files", "mount", "--fileserver-root", str(place.files.root))
        self.assertEqual((sdk.tasks, ours.tasks), ({}, {}))
        self.assertEqual(sdk.files, {"top/keep.bin", f"top/below/task.{task}/artifacts/a/a.bin"})
        self.assertEqual(ours.files, {"top/keep.bin"})
        self.assertEqual([path.name for path in (place.files.root / "top").iterdir()], ["keep.bin"])


if __name__ == "__main__":
    unittest.main()
