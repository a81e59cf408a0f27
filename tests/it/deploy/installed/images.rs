//! The image archives, read as their formats describe them. `tests/engine/run` has an engine load and run them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{binaries, checked, released_file};
use crate::start::Start;

/// The files of an archive, each with its bytes.
fn unpacked(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    checked(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(dir.path()));
    walkdir::WalkDir::new(dir.path())
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let name = entry.path().strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// What a program makes of these bytes.
fn piped(bytes: &[u8], program: &str, args: &[&str]) -> Vec<u8> {
    let input = tempfile::NamedTempFile::new().unwrap();
    fs::write(input.path(), bytes).unwrap();
    let mut command = Command::new(program);
    command.args(args).stdin(fs::File::open(input.path()).unwrap()).stdout(Stdio::piped());
    let mut child = command.start().unwrap();
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    assert!(child.wait().unwrap().success(), "{program}");
    out
}

fn digest(bytes: &[u8]) -> String {
    let sum = String::from_utf8(piped(bytes, "sha256sum", &[])).unwrap();
    format!("sha256:{}", sum.split(' ').next().unwrap())
}

/// An archive, of which every blob is what its name says.
struct Layout(BTreeMap<String, Vec<u8>>);

impl Layout {
    fn of(path: &Path) -> Self {
        let files = unpacked(path);
        for (name, bytes) in &files {
            if let Some(sum) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(digest(bytes), format!("sha256:{sum}"));
            }
        }
        assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
        Self(files)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.0[name]).unwrap()
    }

    /// The content that a descriptor names, which has the size that it says.
    fn blob(&self, descriptor: &Value) -> &[u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = &self.0[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    /// The only entry of the index, under the name by which the documentation runs it.
    fn top(&self) -> Value {
        let index = self.json("index.json");
        let entries = index["manifests"].as_array().unwrap();
        assert_eq!(entries.len(), 1, "{index}");
        let names = &entries[0]["annotations"];
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            names["io.containerd.image.name"],
            format!("docker.io/library/sweeper:{version}")
        );
        assert_eq!(names["org.opencontainers.image.ref.name"], version);
        entries[0].clone()
    }

    /// Asserts that an image has the binary and nothing else, and what the Dockerfile says of it.
    #[track_caller]
    fn assert_image(&self, descriptor: &Value, binary: &Path, arch: &str) {
        assert_eq!(descriptor["platform"], json!({"architecture": arch, "os": "linux"}));
        let manifest: Value = serde_json::from_slice(self.blob(descriptor)).unwrap();
        let config: Value = serde_json::from_slice(self.blob(&manifest["config"])).unwrap();
        assert_eq!((&config["architecture"], &config["os"]), (&arch.into(), &"linux".into()));
        assert_eq!(config["config"]["User"], "1000:1000");
        assert_eq!(config["config"]["Entrypoint"], json!(["/sweeper"]));
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 1);
        let layer = piped(self.blob(&layers[0]), "gzip", &["-dc"]);
        assert_eq!(config["rootfs"]["diff_ids"], json!([digest(&layer)]));
        let list = String::from_utf8(piped(&layer, "tar", &["-tvf", "-"])).unwrap();
        assert!(list.starts_with("-rwxr-xr-x 0/0 ") && list.ends_with(" sweeper\n"), "{list}");
        assert_eq!(list.lines().count(), 1, "{list}");
        let inside = piped(&layer, "tar", &["-xOf", "-"]);
        assert!(inside == fs::read(binary).unwrap(), "the binary in the image for {arch}");
    }
}

#[test]
fn the_image_of_each_machine_has_its_binary_and_nothing_else() {
    let Some(both) = binaries() else { return };
    for (binary, arch) in both.iter().zip(["amd64", "arm64"]) {
        let Some(path) = released_file(&format!("-image-{arch}.tar")) else { return };
        let layout = Layout::of(&path);
        let top = layout.top();
        layout.assert_image(&top, binary, arch);
        // As `docker save` writes it, for engines that read nothing else.
        let docker = layout.json("manifest.json");
        let named = json!([format!("sweeper:{}", env!("CARGO_PKG_VERSION"))]);
        assert_eq!(docker[0]["RepoTags"], named);
        for key in [&docker[0]["Config"], &docker[0]["Layers"][0]] {
            assert!(layout.0.contains_key(key.as_str().unwrap()), "{docker}");
        }
        assert_eq!(layout.0.len(), 6, "{:?}", layout.0.keys());
    }
}

#[test]
fn one_archive_has_the_images_of_all_machines_in_a_list() {
    let (Some(both), Some(path)) = (binaries(), released_file("-image.tar")) else { return };
    let layout = Layout::of(&path);
    let top = layout.top();
    assert_eq!(top["mediaType"], "application/vnd.oci.image.index.v1+json");
    let list: Value = serde_json::from_slice(layout.blob(&top)).unwrap();
    let images = list["manifests"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    for ((image, binary), arch) in images.iter().zip(both).zip(["amd64", "arm64"]) {
        layout.assert_image(image, binary, arch);
    }
    // An engine that does not choose by the machine gets each under a name of its own.
    let docker = layout.json("manifest.json");
    let names: Vec<&Value> =
        docker.as_array().unwrap().iter().map(|one| &one["RepoTags"]).collect();
    let version = env!("CARGO_PKG_VERSION");
    let name = |arch: &str| json!([format!("sweeper:{version}-{arch}")]);
    assert_eq!(names, [&name("amd64"), &name("arm64")]);
}
