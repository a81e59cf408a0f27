//! Files as people write them.

use super::*;

fn env(name: &str) -> Option<String> {
    (name == "KEY").then(|| "from-env".to_owned())
}

fn text(file: &str, path: &str) -> Option<String> {
    Conf::parse(file).unwrap().text(path, &env).unwrap()
}

#[test]
fn a_file_that_clearml_init_writes_is_read() {
    let file = r#"
# ClearML SDK configuration file
api {
    # Notice: 'host' is the api server (default port 8008), not the web server.
    api_server: http://localhost:8008
    web_server: "http://localhost:8080",
    files_server: http://localhost:8081 // a comment
    // Credentials are generated using the webapp
    credentials {"access_key": "AK", "secret_key": "S+/#k=="}
}
sdk {
    storage {
        cache { default_base_dir: "~/.clearml/cache" }
        http.legacy_fileservers = [ "http://old:8081", ${?NONE}, http://older:8081 ]
    }
    metrics { file_history_size: 100
        matplotlib_untitled_history_size: 100 }
}
"#;
    for (path, value) in [
        ("api.api_server", "http://localhost:8008"),
        ("api.web_server", "http://localhost:8080"),
        ("api.files_server", "http://localhost:8081"),
        ("api.credentials.access_key", "AK"),
        ("api.credentials.secret_key", "S+/#k=="),
        ("sdk.metrics.file_history_size", "100"),
    ] {
        assert_eq!(text(file, path).as_deref(), Some(value), "{path}");
    }
    let conf = Conf::parse(file).unwrap();
    let old = conf.texts("sdk.storage.http.legacy_fileservers", &env).unwrap();
    assert_eq!(old, ["http://old:8081", "http://older:8081"]);
    for (file, list) in [
        ("a = []", Some(0)),
        ("a = null", Some(0)),
        ("a = ${?NONE}", Some(0)),
        ("b = x", Some(0)),
        ("a = [x, [y]]", None),
        ("a = x", None),
        ("a { b = x }", None),
    ] {
        let texts = Conf::parse(file).unwrap().texts("a", &env);
        assert_eq!(texts.ok().map(|texts| texts.len()), list, "{file}");
    }
}

#[test]
fn every_way_to_write_a_value_is_read() {
    for (file, value) in [
        ("a.b = x", Some("x")),
        ("a { b = x }", Some("x")),
        ("{ \"a\": { \"b\": \"x\" } }", Some("x")),
        ("a.\"b\" : x y  # c", Some("x y")),
        ("a.b = ${KEY}", Some("from-env")),
        ("a.b = \"http://\"${KEY}\":1\"", Some("http://from-env:1")),
        ("a.b = ${?NONE}", None),
        ("a.b = null", None),
        ("a.b = \"\"", Some("")),
        ("a.b = x\na.b = ${?NONE}\na.c = 1", None),
        ("a.b = \"\"\"x \"y\" z\"\"\"", Some("x \"y\" z")),
        ("a.b = \"\\u0041\\n\"", Some("A\n")),
        ("c = q\na.b = ${c}1", Some("q1")),
        ("a = 1\na.b = x", Some("x")),
        ("a { b : 1 }\na { c : 2 }", Some("1")),
        ("\u{feff}a.b=x\r\nc=1\r\n", Some("x")),
    ] {
        assert_eq!(text(file, "a.b").as_deref(), value, "{file}");
    }
}

#[test]
fn a_later_file_wins_key_by_key() {
    let mut conf = Conf::parse("a { b = 1, c = 2 }").unwrap();
    conf.merge(Conf::parse("a { c = 3 }").unwrap());
    let get = |path| conf.text(path, &env).unwrap();
    assert_eq!((get("a.b").as_deref(), get("a.c").as_deref()), (Some("1"), Some("3")));
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_quotes_nothing() {
    for (file, words) in [
        ("a {\n s3cret", "line 2: after a key"),
        ("a = {", "a } is missing"),
        ("a = [ 1", "a ] is missing"),
        ("\na = \"s3cret", "line 2: a quote is missing"),
        ("include \"x\"", "include is not supported"),
        ("= 1", "a key is missing"),
        ("{ a = 1 } b", "text after the end"),
        ("a = ${X", "a } is missing after"),
    ] {
        let error = Conf::parse(file).unwrap_err();
        assert!(error.contains(words) && !error.contains("s3cret"), "{file}: {error}");
    }
    let deep = "a {".repeat(10_000);
    assert!(Conf::parse(&deep).unwrap_err().contains("nested too deep"));
    let circle = Conf::parse("a = ${b}\nb = ${a}").unwrap();
    assert!(circle.text("a", &env).unwrap_err().contains("refers to itself"));
    assert!(Conf::parse("a = ${NO}").unwrap().text("a", &env).unwrap_err().contains("${NO}"));
}
