"""Holds the double to what is known of the real API server: transport, login and listings."""

import base64
import http.client
import json
import unittest
from urllib.parse import urlsplit

import seed
from client import DoubleCase, basic, send
from store import parse_date


class Transport(DoubleCase):
    def test_get_post_and_put_are_the_same_and_the_envelope_is_whole(self):
        self.start([seed.task("t1")])
        for method in ("GET", "POST", "PUT"):
            body = json.dumps({"only_fields": ["id"]})
            answer = send(self.double.api.url, method, "/tasks.get_all", body, self.token)
            self.assertEqual(answer.data, {"tasks": [{"id": "t1"}]})
            meta = answer.json["meta"]
            result = {"result_code", "result_subcode", "result_msg", "error_stack", "error_data"}
            self.assertEqual(set(meta), {"id", "trx", "endpoint", *result})
            self.assertEqual(answer.code, "200/0")
            self.assertEqual(set(meta["endpoint"]), {"name", "requested_version", "actual_version"})

    def test_arguments_of_the_query_are_merged_in(self):
        self.start([seed.task("t1"), seed.task("t2")])
        self.assertEqual(self.call("tasks.get_by_id?task=t2").data["task"]["id"], "t2")

    def test_a_version_above_the_servers_is_resolved_downward(self):
        self.start(version="2.30")
        endpoint = self.call("v2.99/tasks.get_all").json["meta"]["endpoint"]
        self.assertEqual(endpoint["requested_version"], "2.30")

    def test_an_unknown_endpoint_is_404(self):
        self.start()
        for name in ("tasks.no_such", "no", "v2.5/tasks.delete_many"):
            self.assertEqual(self.call(name).code, "404/0", name)

    def test_an_old_server_has_no_delete_many(self):
        self.start([seed.task("t1")], version="2.12")
        self.assertEqual(self.call("tasks.delete_many", ids=["t1"]).code, "404/0")
        self.start([seed.task("t1")], version="2.13")
        self.assertEqual(self.call("tasks.delete_many", ids=["t1"]).code, "200/0")

    def test_a_content_encoding_is_415(self):
        self.start()
        answer = self.call("tasks.get_all", {**self.token, "Content-Encoding": "gzip"})
        self.assertEqual(answer.status, 415)

    def test_a_body_that_is_not_json_is_400(self):
        self.start()
        answer = send(self.double.api.url, "POST", "/tasks.get_all", "{", self.token)
        self.assertEqual(answer.code, "400/0")

    def test_one_connection_serves_many_requests(self):
        self.start()
        connection = http.client.HTTPConnection(urlsplit(self.double.api.url).netloc, timeout=10)
        self.addCleanup(connection.close)
        sockets = set()
        for _ in range(3):
            connection.request("POST", "/server.info", "{}", self.token)
            self.assertEqual(json.loads(connection.getresponse().read())["data"]["version"], "2.3.0")
            sockets.add(connection.sock.getsockname())
        self.assertEqual(len(sockets), 1)

    def test_each_request_is_logged_without_its_token(self):
        self.start([seed.task("t1")])
        self.call("tasks.get_by_id", task="t1")
        self.to_files("DELETE", "/none")
        lines = self.logged()
        self.assertEqual([line["path"] for line in lines], ["/auth.login", "/tasks.get_by_id", "/none"])
        self.assertEqual([line["host"] for line in lines], ["api", "api", "files"])
        self.assertEqual([line["status"] for line in lines], [200, 200, 404])
        self.assertEqual(lines[1]["body"], {"task": "t1"})
        self.assertTrue(all(line["authorization"] for line in lines))
        secret = self.token["Authorization"].split()[1]
        self.assertNotIn(secret, self.log.read_text())

    def test_state_and_faults_are_there_over_http(self):
        self.start([seed.task("t1")])
        api = self.double.api.url
        state = send(api, "GET", "/_double/state").json
        self.assertEqual([task["id"] for task in state["tasks"]], ["t1"])
        faults = json.dumps([{"match": "tasks.*", "do": "status", "status": 502}])
        self.assertEqual(send(api, "POST", "/_double/faults", faults).status, 200)
        self.assertEqual(self.call("tasks.get_all").status, 502)
        self.assertEqual(send(api, "GET", "/_double/faults").json[0]["hits"], 1)
        self.assertEqual(send(api, "POST", "/_double/faults", '[{"do": "no such"}]').status, 400)
        again = json.dumps(seed.state([seed.task("t2")]))
        send(api, "POST", "/_double/state", again)
        self.assertEqual(self.left(), ["t2"])


class Login(DoubleCase):
    def login(self, headers, **body):
        return self.call("auth.login", headers, **body)

    def claims(self, answer):
        part = answer.data["token"].split(".")[1]
        return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))

    def test_the_token_says_who_how_long_and_which_server(self):
        self.start()
        claims = self.claims(self.login(basic("key", "secret")))
        self.assertEqual(claims["api_version"], "2.34")
        self.assertEqual(claims["server_version"], "2.3.0")
        self.assertEqual(claims["feature_set"], "basic")
        self.assertLessEqual({"user", "company", "role"}, set(claims["identity"]))
        self.assertEqual(claims["exp"] - claims["iat"], 30 * 86_400)

    def test_the_release_follows_the_version_of_the_api(self):
        for api, release in {"2.14": "1.0.0", "2.21": "1.7.0", "2.23": "1.9.0", "2.30": "1.16.0"}.items():
            self.start(version=api)
            claims = self.claims(self.login(basic("key", "secret")))
            self.assertEqual((claims["api_version"], claims["server_version"]), (api, release))

    def test_a_time_can_be_asked_for_up_to_a_year(self):
        self.start()
        claims = self.claims(self.login(basic("key", "secret"), expiration_sec=60))
        self.assertEqual(claims["exp"] - claims["iat"], 60)
        self.assertEqual(self.login(basic("key", "secret"), expiration_sec=31_536_000).code, "200/0")
        self.assertEqual(self.login(basic("key", "secret"), expiration_sec=31_536_001).code, "400/12")

    def test_no_credentials_are_401_20(self):
        self.start()
        self.assertEqual(self.login({}).code, "401/20")
        self.assertEqual(self.call("tasks.get_all", {}).code, "401/20")

    def test_a_wrong_key_or_secret_is_401_22(self):
        self.start()
        self.assertEqual(self.login(basic("key", "wrong")).code, "401/22")
        self.assertEqual(self.login(basic("wrong", "secret")).code, "401/22")

    def test_a_bad_or_expired_token_is_401_30(self):
        self.start()
        bad = {"Authorization": self.token["Authorization"][:-4] + "AAAA"}
        self.assertEqual(self.call("tasks.get_all", bad).code, "401/30")
        self.assertEqual(self.call("tasks.get_all", {"Authorization": "Bearer x"}).code, "401/30")
        claims = self.login(basic("key", "secret"), expiration_sec=10)
        old = {"Authorization": "Bearer " + claims.data["token"]}
        self.assertEqual(self.call("tasks.get_all", old).code, "200/0")
        self.double.store.ahead += parse_date("2020-01-02") - parse_date("2020-01-01")
        self.assertEqual(self.call("tasks.get_all", old).code, "401/30")

    def test_a_token_is_taken_for_a_login_too(self):
        self.start()
        self.assertEqual(self.login(self.token).code, "200/0")

    def test_malformed_credentials_are_401_21_and_other_kinds_401_10(self):
        self.start()
        self.assertEqual(self.login({"Authorization": "Basic *"}).code, "401/21")
        self.assertEqual(self.login({"Authorization": "Digest x"}).code, "401/10")


if __name__ == "__main__":
    unittest.main()
