//! What programs read: each output is what its schema says, and stays what it was.
//!
//! Within the number of a schema, fields are added; none is changed, renamed or removed. `fixtures/schema-1` has the
//! schemas and outputs as they were first. Its files are added, never changed: `SWEEPER_TESTS_SAVE=1` writes those
//! that are missing.

mod outputs;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::start::Start;
use crate::world::{Run, is_present};
use outputs::{Output, outputs};

/// Below the root of the repository.
fn below(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where the schemas and outputs are as they were first.
fn first() -> PathBuf {
    below("fixtures/schema-1")
}

/// `check-jsonschema`, which this program has no part in.
fn checker() -> Option<PathBuf> {
    let python = std::env::var_os("SWEEPER_TESTS_PYTHON").map(PathBuf::from);
    let checker = python.map(|python| python.with_file_name("check-jsonschema"));
    let checker = checker.filter(|checker| checker.exists());
    is_present(checker.is_some(), "check-jsonschema").then(|| checker.unwrap())
}

/// Checks documents against a schema, all at once.
fn check(checker: &Path, schema: &Path, documents: &[&Value]) -> Run {
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(checker);
    command.arg("--schemafile").arg(schema);
    for (number, document) in documents.iter().enumerate() {
        let path = scratch.path().join(format!("{number}.json"));
        fs::write(&path, document.to_string()).unwrap();
        command.arg(path);
    }
    Run::from(command.finish().unwrap())
}

/// Checks outputs against the schemas in `dir`.
#[track_caller]
fn assert_valid(checker: &Path, dir: &Path, outputs: &[Output]) {
    let schemas: BTreeSet<&str> = outputs.iter().map(|output| output.schema).collect();
    for schema in schemas {
        let of_schema = outputs.iter().filter(|output| output.schema == schema);
        let documents: Vec<&Value> = of_schema.flat_map(|output| &output.documents).collect();
        let run = check(checker, &dir.join(file_of(schema)), &documents);
        assert_eq!(run.code, Some(0), "{schema}: {}{}", run.stdout, run.stderr);
    }
}

fn file_of(schema: &str) -> String {
    format!("{schema}-1.schema.json")
}

fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Makes a schema refuse every field that it does not describe.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.contains_key("properties") && !object.contains_key("additionalProperties") {
                object.insert("additionalProperties".to_owned(), json!(false));
            }
            object.values_mut().for_each(close);
        }
        Value::Array(array) => array.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_output_is_what_its_schema_says_and_every_field_is_described() {
    let Some(checker) = checker() else { return };
    let closed = tempfile::tempdir().unwrap();
    let mut files = names_in(&below("docs/schema"));
    let mut meta = Command::new(&checker);
    meta.arg("--check-metaschema");
    for name in &files {
        let path = below("docs/schema").join(name);
        let mut schema: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        meta.arg(path);
        close(&mut schema);
        fs::write(closed.path().join(name), schema.to_string()).unwrap();
    }
    Run::from(meta.finish().unwrap()).exits(0);
    let Some(outputs) = outputs() else { return };
    assert_valid(&checker, closed.path(), outputs);
    for output in outputs {
        files.remove(&file_of(output.schema));
    }
    // The report is checked as the last line of `--format jsonl` too.
    assert!(files.is_empty(), "nothing is checked against {files:?}");
}

#[test]
fn what_this_version_prints_is_what_the_schemas_said_first() {
    let Some(checker) = checker() else { return };
    let Some(outputs) = outputs() else { return };
    save_missing(outputs);
    assert_valid(&checker, &first(), outputs);
    assert_eq!(names_in(&first()), saved_names(outputs), "each schema and output is saved once");
    // This notices what a reader would notice, and no more.
    let report = &outputs.iter().find(|output| output.name == "run.json").unwrap().documents[0];
    let says = |change: fn(&mut Value)| {
        let mut changed = report.clone();
        change(&mut changed);
        check(&checker, &first().join("report-1.schema.json"), &[&changed]).code
    };
    assert_eq!(says(|report| report["new"] = json!([1])), Some(0), "a field is added");
    assert_eq!(says(|report| report["zones"][0]["kept_by"]["new"] = json!(1)), Some(0));
    for change in [
        |report: &mut Value| report["now"] = json!(1_767_323_045),
        |report: &mut Value| drop(report["totals"].as_object_mut().unwrap().remove("failed")),
        |report: &mut Value| report["exit"] = json!(7),
    ] {
        assert_eq!(says(change), Some(1));
    }
}

#[test]
fn what_was_printed_first_is_still_what_the_schemas_say() {
    let Some(checker) = checker() else { return };
    let saved: Vec<Output> =
        outputs::NAMES.iter().map(|(name, schema)| saved(name, schema)).collect();
    assert_valid(&checker, &below("docs/schema"), &saved);
}

#[test]
fn no_field_that_was_printed_first_is_gone_or_has_another_type() {
    let Some(outputs) = outputs() else { return };
    for output in outputs {
        let shapes = |documents: &[Value]| -> BTreeSet<String> {
            documents.iter().flat_map(|document| shape("", document)).collect()
        };
        let before = shapes(&saved(output.name, output.schema).documents);
        let now = shapes(&output.documents);
        let gone: Vec<&String> = before.difference(&now).collect();
        assert!(before.len() >= 5 && gone.is_empty(), "{}: {gone:?}", output.name);
    }
    assert_eq!(
        shape("", &json!({"a": [{"b": null}, {"b": 1.5}]})),
        ["/a: array", "/a/*/b: null", "/a/*/b: number"].map(str::to_owned).into()
    );
}

/// Each field of a value with its type. The elements of an array count as one.
fn shape(at: &str, value: &Value) -> BTreeSet<String> {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let mut all = BTreeSet::from([format!("{at}: {kind}")]);
    match value {
        Value::Array(array) => {
            all.extend(array.iter().flat_map(|value| shape(&format!("{at}/*"), value)));
        }
        // A map whose keys are those of the day.
        Value::Object(_) if at.ends_with("/details") => {}
        Value::Object(object) => {
            all.extend(object.iter().flat_map(|(key, value)| shape(&format!("{at}/{key}"), value)));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    all.retain(|line| !line.starts_with(": ") && !line.ends_with("/*: object"));
    all
}

/// An output as it was first.
fn saved(name: &'static str, schema: &'static str) -> Output {
    let text = fs::read_to_string(first().join(name));
    let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
    let documents = serde_json::Deserializer::from_str(&text).into_iter();
    Output { name, schema, documents: documents.map(Result::unwrap).collect() }
}

fn saved_names(outputs: &[Output]) -> BTreeSet<String> {
    let schemas = names_in(&below("docs/schema"));
    schemas.into_iter().chain(outputs.iter().map(|output| output.name.to_owned())).collect()
}

/// Adds schemas and outputs that are not saved yet.
fn save_missing(outputs: &[Output]) {
    if std::env::var_os("SWEEPER_TESTS_SAVE").is_none() {
        return;
    }
    let put = |name: &str, text: &str| {
        let path = first().join(name);
        if !path.exists() {
            fs::write(path, text).unwrap();
        }
    };
    fs::create_dir_all(first()).unwrap();
    for name in names_in(&below("docs/schema")) {
        put(&name, &fs::read_to_string(below("docs/schema").join(&name)).unwrap());
    }
    for output in outputs {
        let lines = output.documents.iter().map(|document| format!("{document}\n"));
        put(output.name, &lines.collect::<String>());
    }
}
