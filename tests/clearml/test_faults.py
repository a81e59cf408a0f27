"""Shows that each fault does what it says, and that something is deleted only when it says so."""

import contextlib
import http.client
import io
import json
import threading
import time
import unittest
from email.utils import parsedate_to_datetime

import seed
from client import DoubleCase, send
from double import Double
from faults import KINDS


class FaultCase(DoubleCase):
    def setUp(self):
        super().setUp()
        tasks = [seed.task(f"t{n}", 40) for n in range(4)]
        live = [seed.task("live", archived=False), seed.task("new", 1)]
        samples = {"t0": [seed.sample(f"u{n}") for n in range(3)]}
        self.start([*tasks, *live], events=samples)
        self.everything = self.left()
        # A token from before the fault.
        self.token

    def fault(self, match, do, **more):
        self.double.faults.set([{"match": match, "do": do, **more}])

    def eligible(self, **more):
        old = f"<{seed.days_ago(30)}"
        return self.ids(system_tags=["archived"], status_changed=[old], order_by=["id"], **more)


class When(FaultCase):
    def test_a_fault_can_skip_end_and_look_for_a_text(self):
        self.fault("tasks.get_by_id", "status", status=503, skip=1, times=2, has="t1")
        codes = [self.call("tasks.get_by_id", task="t1").status for _ in range(4)]
        self.assertEqual(codes, [200, 503, 503, 200])
        self.assertEqual(self.call("tasks.get_by_id", task="t2").status, 200)

    def test_a_fault_is_meant_for_one_server_or_both(self):
        self.fault("files:*", "status", status=500)
        self.assertEqual(self.to_files("DELETE", "/x").status, 500)
        self.assertEqual(self.call("tasks.get_all").status, 200)
        self.fault("api:*", "status", status=500)
        self.assertEqual(self.to_files("DELETE", "/x").status, 404)
        self.assertEqual(self.call("tasks.get_all").status, 500)

    def test_an_unknown_fault_is_an_error(self):
        for wrong in ([{"match": "x", "do": "nothing"}], [{"do": "close"}]):
            with self.assertRaises(ValueError):
                self.double.faults.set(wrong)

    def test_an_error_of_the_double_itself_is_taken_for_no_fault(self):
        double = Double(seed.state(), self.files.root)
        double.faults.set([{"match": "*", "do": "status"}])  # which status is missing
        with contextlib.redirect_stderr(io.StringIO()), self.assertRaises(http.client.BadStatusLine):
            send(double.api.url, "POST", "/server.info")
        with self.assertRaisesRegex(AssertionError, "KeyError: 'status'"):
            double.stop()

    def test_each_kind_has_a_test(self):
        names = " ".join(name for case in (Instead, Wire, Data) for name in dir(case))
        self.assertEqual([kind for kind in KINDS if kind not in names], [])


class Instead(FaultCase):
    def test_status_has_an_envelope_or_a_body_of_its_own(self):
        self.fault("tasks.delete", "status", status=500, subcode=100)
        self.assertEqual(self.call("tasks.delete", task="t1").code, "500/100")
        self.fault("tasks.delete", "status", status=502, body="<html>")
        self.assertEqual(self.call("tasks.delete", task="t1").body, b"<html>")
        self.assertEqual(self.left(), self.everything)

    def test_status_after_the_deed(self):
        self.fault("tasks.delete", "status", status=500, subcode=100, after=True)
        self.assertEqual(self.call("tasks.delete", task="t1").code, "500/100")
        self.assertNotIn("t1", self.left())
        self.double.faults.set([])
        self.assertEqual(self.call("tasks.delete", task="t1").code, "400/101")

    def test_not_json(self):
        self.fault("*", "not_json")
        self.assertEqual(self.call("tasks.delete", task="t1").status, 200)
        self.assertTrue(self.call("tasks.get_all").body.startswith(b"<!DOCTYPE"))
        self.assertEqual(self.left(), self.everything)

    def test_wrong_envelope_has_the_right_data_and_deletes_nothing(self):
        self.fault("*", "wrong_envelope")
        listed = self.call("tasks.get_all", only_fields=["id"])
        self.assertEqual(set(listed.json), {"data"})
        self.assertEqual(len(listed.data["tasks"]), len(self.everything))
        self.assertEqual(self.call("tasks.delete_many", ids=["t1"]).json, {"data": {}})
        self.assertEqual(self.left(), self.everything)

    def test_redirect(self):
        self.fault("tasks.get_all", "redirect", to="http://127.0.0.1:1/x", status=307)
        answer = self.call("tasks.get_all")
        self.assertEqual((answer.status, answer.headers["Location"]), (307, "http://127.0.0.1:1/x"))


class Wire(FaultCase):
    def test_close_before_and_close_after(self):
        for do, is_left in (("close", True), ("close_after", False)):
            self.fault("tasks.delete", do)
            with self.assertRaises((http.client.BadStatusLine, ConnectionError)):
                self.call("tasks.delete", task="t1")
            self.assertEqual("t1" in self.left(), is_left)
        self.assertEqual([line["status"] for line in self.logged()], [200, None, 200])

    def test_hang(self):
        self.fault("tasks.delete", "hang", seconds=1)
        with self.assertRaises(TimeoutError):
            send(self.double.api.url, "POST", "/tasks.delete", '{"task": "t1"}', self.token, seconds=0.2)
        self.assertEqual(self.left(), self.everything)

    def test_slow_and_slow_drip(self):
        self.fault("tasks.get_all", "slow", seconds=0.2)
        began = time.monotonic()
        self.assertEqual(self.call("tasks.get_all").status, 200)
        self.assertGreaterEqual(time.monotonic() - began, 0.2)
        self.fault("server.info", "slow_drip", seconds=0.01, bytes=50)
        began = time.monotonic()
        answer = self.call("server.info")
        self.assertEqual(answer.data["version"], "2.3.0")
        self.assertGreaterEqual(time.monotonic() - began, 0.01 * (len(answer.body) // 50))

    def test_clock(self):
        self.fault("server.info", "clock", seconds=-7200)
        said = parsedate_to_datetime(self.call("server.info").headers["Date"]).timestamp()
        self.assertAlmostEqual(said, time.time() - 7200, delta=60)

    def test_truncate(self):
        self.fault("tasks.get_all", "truncate")
        with self.assertRaises(http.client.IncompleteRead):
            self.call("tasks.get_all")

    def test_huge(self):
        self.fault("tasks.get_all", "huge")
        connection = http.client.HTTPConnection(self.double.api.url[7:], timeout=10)
        self.addCleanup(connection.close)
        connection.request("POST", "/tasks.get_all", "{}", self.token)
        answer = connection.getresponse()
        self.addCleanup(answer.close)
        self.assertEqual(int(answer.headers["Content-Length"]), 10 * 1024**3)
        self.assertEqual(answer.read(8), b'{"meta":')


class Data(FaultCase):
    def test_drop_filter(self):
        self.assertEqual(self.eligible(), ["t0", "t1", "t2", "t3"])
        self.fault("tasks.get_all", "drop_filter")
        self.assertIn("new", self.eligible())
        self.assertNotIn("live", self.eligible())
        self.fault("tasks.get_all", "drop_filter", fields=["system_tags", "status_changed"])
        self.assertIn("live", self.eligible())

    def test_live_rows(self):
        self.fault("tasks.get_all", "live_rows")
        self.assertEqual(self.eligible(), ["t0", "t1", "t2", "t3", "live"])

    def test_repeat_page(self):
        self.fault("tasks.get_all", "repeat_page")
        self.assertEqual(self.eligible(page=7, page_size=2), ["t0", "t1"])
        self.fault("events.get_task_events", "repeat_page")
        first = self.call("events.get_task_events", task="t0", batch_size=2).data
        again = {"batch_size": 2, "scroll_id": first["scroll_id"]}
        second = self.call("events.get_task_events", task="t0", **again).data
        self.assertEqual(second["events"], first["events"])

    def test_endless_scroll(self):
        self.double.faults.set([{"match": "*", "do": "endless_scroll"}])
        task_scroll = event_scroll = None
        for _ in range(9):
            data = self.call("tasks.get_all", size=4, scroll_id=task_scroll).data
            task_scroll = data["scroll_id"]
            self.assertTrue(data["tasks"])
            data = self.call("events.get_task_events", task="t0", scroll_id=event_scroll).data
            event_scroll = data["scroll_id"]
            self.assertTrue(data["events"])

    def test_refuse_fails_some_of_many(self):
        self.fault("tasks.delete_many", "refuse", text="t1", codes=[400, 123], reason="due to status")
        data = self.call("tasks.delete_many", ids=["t0", "t1"]).data
        self.assertEqual([one["id"] for one in data["succeeded"]], ["t0"])
        self.assertEqual(data["failed"][0]["error"]["codes"], [400, 123])
        self.files.add("a.bin")
        self.files.add("b.bin")
        self.fault("files:delete_many", "refuse", text="a.bin", reason="Permission denied")
        body = json.dumps({"files": ["a.bin", "b.bin"]})
        answer = self.to_files("POST", "/delete_many", body).json
        self.assertEqual(answer["errors"], {"Permission denied": ["a.bin"]})
        self.assertEqual(self.files.left(), ["a.bin"])


    def test_vanish_is_another_client_that_deletes_after_or_before_an_answer(self):
        self.fault("tasks.get_all", "vanish", ids=["t0"])
        self.assertIn("t0", self.eligible())
        self.assertNotIn("t0", self.eligible())
        self.fault("events.get_task_events", "vanish", ids=["t1"], before=True)
        self.assertEqual(self.call("events.get_task_events", task="t1").code, "400/101")

    def test_clamp_makes_pages_shorter_than_was_asked_for(self):
        self.fault("tasks.get_all", "clamp", rows=3)
        self.assertEqual(self.eligible(), ["t0", "t1", "t2"])
        self.assertEqual(self.eligible(page=1), ["t3"])

    def test_claim_says_that_tasks_are_deleted_and_keeps_them(self):
        self.fault("tasks.delete_many", "claim")
        data = self.call("tasks.delete_many", ids=["t0"]).data
        self.assertEqual([one["id"] for one in data["succeeded"]], ["t0"])
        self.assertEqual(self.left(), self.everything)


class Threads(FaultCase):
    def test_many_clients_delete_at_once_and_each_task_goes_once(self):
        deleted, lock = [], threading.Lock()

        def delete():
            for task in ("t0", "t1", "t2", "t3"):
                if self.call("tasks.delete", task=task).status == 200:
                    with lock:
                        deleted.append(task)

        threads = [threading.Thread(target=delete) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(deleted), ["t0", "t1", "t2", "t3"])


if __name__ == "__main__":
    unittest.main()
