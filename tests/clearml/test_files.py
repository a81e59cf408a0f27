"""Holds the double to what is known of the real file server: how paths are read, and who may ask."""

import json
import os
import unittest
from urllib.parse import quote

from client import DoubleCase, send

# Names that are easily taken for others: what is on disk, and what stands next to it.
NAMES = ["a+b.bin", "a b.bin", "e%20f.bin", "e f.bin", "k#1.bin", "k.bin", "q?x.bin", "ü é 日本.bin"]
NAMES += ["p%2Bq.bin", "p+q.bin"]


class FilesCase(DoubleCase):
    def setUp(self):
        super().setUp()
        self.start()

    def delete_many(self, *given):
        answer = self.to_files("POST", "/delete_many", json.dumps({"files": given}))
        self.assertEqual(answer.status, 200)
        return answer.json

    def seed_names(self):
        for name in NAMES:
            self.files.add(f"p/{name}")


class Single(FilesCase):
    def test_delete_answers_the_path_and_then_404(self):
        self.files.add("p/t.1/a.bin")
        answer = self.to_files("DELETE", "/p/t.1/a.bin")
        self.assertEqual((answer.status, answer.json), (200, "p/t.1/a.bin"))
        again = self.to_files("DELETE", "/p/t.1/a.bin")
        self.assertEqual((again.status, again.body.decode()), (404, "File p/t.1/a.bin not found"))

    def test_a_directory_is_not_found_and_empty_ones_stay(self):
        self.files.add("p/t.1/a.bin")
        self.assertEqual(self.to_files("DELETE", "/p/t.1").status, 404)
        self.to_files("DELETE", "/p/t.1/a.bin")
        self.assertTrue((self.files.root / "p/t.1").is_dir())

    def test_each_name_is_removed_exactly_when_its_path_is_encoded_once(self):
        for name in NAMES:
            self.seed_names()
            self.assertEqual(self.to_files("DELETE", "/p/" + quote(name)).status, 200, name)
            self.assertEqual(set(NAMES) - {path[2:] for path in self.files.left()}, {name})

    def test_a_plus_in_a_path_stays_a_plus(self):
        self.seed_names()
        self.to_files("DELETE", "/p/a+b.bin")
        self.assertNotIn("p/a+b.bin", self.files.left())
        self.assertIn("p/a b.bin", self.files.left())

    def test_head_says_the_size_and_get_the_content(self):
        self.files.add("p/a.bin", b"12345")
        head = self.to_files("HEAD", "/p/a.bin")
        self.assertEqual((head.status, head.headers["Content-Length"], head.body), (200, "5", b""))
        self.assertEqual(self.to_files("GET", "/p/a.bin").body, b"12345")
        self.assertEqual(self.to_files("HEAD", "/p/none").status, 404)
        self.assertEqual(self.to_files("HEAD", "/p").status, 404)

    def test_the_root_says_ok_without_a_token(self):
        answer = send(self.double.files.url, "GET", "/")
        self.assertEqual((answer.status, answer.body), (200, b"OK"))

    def test_nothing_outside_the_root_is_reached(self):
        outside = self.dir / "outside"
        outside.write_text("x")
        for path in ("/../outside", "/p/../../outside", "/%2e%2e/outside", f"/{outside}", f"//{outside}"):
            self.assertEqual(self.to_files("DELETE", path).status, 404, path)
        self.delete_many("../outside", "p/../../outside", str(outside), f"/{outside}")
        self.assertTrue(outside.exists())


class Batch(FilesCase):
    def test_the_answer_has_given_and_decoded_paths_and_reasons(self):
        self.files.add("p/a+b.bin")
        answer = self.delete_many("p/a%2Bb.bin", "p/none", "p/no%20ne")
        self.assertEqual(answer["deleted"], {"p/a%2Bb.bin": "p/a+b.bin"})
        self.assertEqual(answer["errors"], {"Not found": ["p/none", "p/no%20ne"]})

    def test_each_name_is_removed_exactly_when_its_path_is_encoded_once(self):
        for name in NAMES:
            self.seed_names()
            given = "p/" + quote(name)
            self.assertEqual(self.delete_many(given)["deleted"], {given: f"p/{name}"})
            self.assertEqual(set(NAMES) - {path[2:] for path in self.files.left()}, {name})

    def test_a_path_that_is_not_encoded_removes_another_file(self):
        pairs = {"a+b.bin": "a b.bin", "e%20f.bin": "e f.bin", "p%2Bq.bin": "p+q.bin"}
        for given, gone in pairs.items():
            self.seed_names()
            self.delete_many(f"p/{given}")
            self.assertEqual(set(NAMES) - {path[2:] for path in self.files.left()}, {gone})

    def test_a_directory_goes_with_all_that_is_in_it(self):
        self.files.add("p/t.1/a/b.bin")
        self.assertEqual(self.delete_many("p/t.1")["deleted"], {"p/t.1": "p/t.1"})
        self.assertFalse((self.files.root / "p/t.1").exists())

    def test_empty_paths_are_refused_one_by_one(self):
        self.files.add("p/a.bin")
        answer = self.delete_many("", "/", "%2F", "p/a.bin")
        self.assertEqual(answer["errors"], {"Empty path not allowed": ["", "/", "%2F"]})
        self.assertEqual(list(answer["deleted"]), ["p/a.bin"])

    def test_paths_above_the_root_are_not_found(self):
        self.assertEqual(self.delete_many("../x", "..")["errors"], {"Not found": ["../x", ".."]})

    def test_a_symlink_to_a_directory_fails_with_the_reason_null(self):
        self.files.add("p/real/a.bin")
        os.symlink("real", self.files.root / "p/link")
        self.assertEqual(self.delete_many("p/link")["errors"], {"null": ["p/link"]})
        self.assertTrue((self.files.root / "p/link/a.bin").exists())

    def test_no_files_are_400(self):
        for body in ("", "{}", '{"files": []}', "x"):
            self.assertEqual(self.to_files("POST", "/delete_many", body).status, 400, body)


class Versions(DoubleCase):
    def statuses(self, version, headers=None, **more):
        """The statuses of a DELETE and of a batch, on a server with this version of the API."""
        self.start(version=version, **more)
        self.files.add("a.bin")
        self.files.add("b.bin")
        headers = self.token if headers is None else headers
        url = self.double.files.url
        single = send(url, "DELETE", "/a.bin", None, headers)
        batch = send(url, "POST", "/delete_many", '{"files": ["b.bin"]}', headers)
        return single.status, batch.status

    def test_old_servers_have_no_batch_and_older_ones_no_delete(self):
        self.assertEqual(self.statuses("2.34"), (200, 200))
        self.assertEqual(self.statuses("2.20"), (200, 405))
        self.assertEqual(self.statuses("2.8"), (405, 405))

    def test_both_can_be_switched_off(self):
        self.assertEqual(self.statuses("2.34", fileserver={"delete_many": False}), (200, 405))
        self.assertEqual(self.statuses("2.34", fileserver={"delete": False}), (405, 200))

    def test_a_token_is_asked_for_since_1_16(self):
        self.assertEqual(self.statuses("2.30", {}), (401, 401))
        self.assertEqual(self.statuses("2.30", {"Authorization": "Bearer x"}), (401, 401))
        self.assertEqual(self.statuses("2.23", {}), (200, 200))
        self.assertEqual(self.statuses("2.34", {}, fileserver={"auth": False}), (200, 200))

    def test_a_content_encoding_is_415(self):
        self.start()
        headers = {**self.token, "Content-Encoding": "gzip"}
        answer = send(self.double.files.url, "DELETE", "/a", None, headers)
        self.assertEqual(answer.status, 415)


if __name__ == "__main__":
    unittest.main()
