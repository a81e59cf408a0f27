//! Finds the servers and the keys, in the order in which ClearML's own clients look for them.
//!
//! This module must not read the environment or a file: both are arguments. It never falls back to the service that
//! ClearML's company runs.

use std::path::{Path, PathBuf};

use super::hocon::Conf;
use super::server::{Credentials, HOSTED, MOST_SERVERS, Server, address, files_of_api};

/// The variables that are looked at.
pub const VARIABLES: [&str; 7] = [
    "CLEARML_API_HOST",
    "CLEARML_API_ACCESS_KEY",
    "CLEARML_API_SECRET_KEY",
    "CLEARML_API_HOST_VERIFY_CERT",
    "CLEARML_AUTH_TOKEN",
    "CLEARML_CONFIG_FILE",
    "CLEARML_FILES_HOST",
];

/// Further addresses of file servers, in the file.
const LEGACY: &str = "sdk.storage.http.legacy_fileservers";

/// What to look at.
pub struct Sources<'a> {
    /// Looks up a variable of the environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a file; `None` if there is none.
    pub read: &'a dyn Fn(&Path) -> Result<Option<String>, String>,
    /// The home directory.
    pub home: Option<&'a Path>,
}

/// What the configuration files say.
struct Files {
    conf: Conf,
    /// What they are called.
    called: String,
    /// The one that is named and does not exist. ClearML's own clients do without it, so it is no error where the other
    /// sources are enough.
    missing: Option<String>,
}

impl Sources<'_> {
    /// A variable under its new or its old name. An empty one counts as not set.
    fn env(&self, name: &str) -> Option<(String, String)> {
        let old = (name != "CLEARML_AUTH_TOKEN").then(|| name.replace("CLEARML_", "TRAINS_"));
        [name.to_owned()].into_iter().chain(old).find_map(|name| {
            let value = (self.env)(&name).filter(|value| !value.trim().is_empty())?;
            Some((value.trim().to_owned(), name))
        })
    }

    /// What the configuration files say. Each is read once: it may be a pipe.
    fn files(&self) -> Result<Files, String> {
        let named = self.env("CLEARML_CONFIG_FILE");
        let mut conf = Conf::default();
        let (mut found, mut missing) = (Vec::new(), None);
        let in_home = ["trains.conf", "clearml.conf"];
        let paths: Vec<PathBuf> = if let Some((path, _)) = &named {
            vec![self.expanded(path)]
        } else {
            self.home.iter().flat_map(|home| in_home.map(|name| home.join(name))).collect()
        };
        for path in paths {
            if let Some(text) = (self.read)(&path)? {
                let one = Conf::parse(&text).map_err(|why| format!("{path:?}, {why}"))?;
                conf.merge(one);
                found.push(format!("{path:?}"));
            } else if let Some((_, name)) = &named {
                missing = Some(format!("{name} names {path:?}, which does not exist"));
            }
        }
        Ok(Files { conf, called: found.join(" and "), missing })
    }

    fn expanded(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(path),
        }
    }
}

/// Finds the servers and the keys.
///
/// # Errors
/// What is missing or wrong, and what to do. No key is shown.
pub fn find(sources: &Sources<'_>) -> Result<Server, String> {
    let Files { conf, called, missing } = sources.files()?;
    match (found(sources, &conf, &called), missing) {
        (Ok(server), Some(missing)) => {
            tracing::warn!("{missing}");
            Ok(server)
        }
        (Err(why), Some(missing)) => Err(format!("{missing}; {why}")),
        (found, None) => found,
    }
}

fn found(sources: &Sources<'_>, conf: &Conf, conf_name: &str) -> Result<Server, String> {
    let in_conf = |path: &str| -> Result<Option<(String, String)>, String> {
        let value =
            conf.text(path, sources.env).map_err(|why| format!("{conf_name}: {path}: {why}"))?;
        let value = value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        Ok(value.map(|value| (value, format!("{path} in {conf_name}"))))
    };
    let of = |name: &str, paths: &[&str]| -> Result<Option<(String, String)>, String> {
        if let Some(found) = sources.env(name) {
            return Ok(Some(found));
        }
        for path in paths {
            if let Some(found) = in_conf(path)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    };
    let used =
        |(text, origin): &(String, String)| address(text).map_err(|why| format!("{origin}: {why}"));
    let api = of("CLEARML_API_HOST", &["api.api_server", "api.host"])?.ok_or_else(|| {
        "no ClearML server is named: set CLEARML_API_HOST, or api.api_server in ~/clearml.conf. \
         It is never guessed"
            .to_owned()
    })?;
    let origin = api.1.clone();
    let api = used(&api)?;
    let access = of("CLEARML_API_ACCESS_KEY", &["api.credentials.access_key"])?;
    let secret = of("CLEARML_API_SECRET_KEY", &["api.credentials.secret_key"])?;
    let token = of("CLEARML_AUTH_TOKEN", &[])?;
    let credentials = match (access, secret, token) {
        (_, _, Some((token, _))) => Credentials::Token(token),
        (Some((access, _)), Some((secret, _)), _) => Credentials::Keys { access, secret },
        _ => {
            return Err(format!(
                "there are no keys for {api}: set CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY, or \
                 api.credentials in ~/clearml.conf"
            ));
        }
    };
    let files = match of("CLEARML_FILES_HOST", &["api.files_server"])? {
        Some(files) => used(&files)?,
        None => files_of_api(&api),
    };
    let old = conf.texts(LEGACY, sources.env).map_err(|why| format!("{conf_name}: {why}"))?;
    let files = file_servers(files, &old, conf_name);
    let verify = of("CLEARML_API_HOST_VERIFY_CERT", &["api.verify_certificate"])?;
    let verify = !verify.is_some_and(|(text, _)| {
        matches!(text.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off")
    });
    let is_hosted = HOSTED.iter().any(|host| api.contains(host));
    if is_hosted {
        tracing::warn!("{api} is the service that ClearML's company runs, named by {origin}");
    }
    Ok(Server { api, files, roots: Vec::new(), credentials, verify, origin })
}

/// All file servers: the main one, if there is one, and older addresses. One that cannot be used is not shown, because
/// a password may be in it.
fn file_servers(main: String, old: &[String], conf_name: &str) -> Vec<String> {
    let mut files: Vec<String> = [main].into_iter().filter(|main| !main.is_empty()).collect();
    for (number, text) in (1..).zip(old) {
        let why = match address(text) {
            Ok(old) if files.contains(&old) => continue,
            Ok(old) if files.len() < MOST_SERVERS => {
                files.push(old);
                continue;
            }
            Ok(_) => format!("there are at most {MOST_SERVERS} file servers"),
            Err(why) => why,
        };
        tracing::warn!(
            "address {number} of {LEGACY} in {conf_name} is not used, and no file there is deleted: {why}"
        );
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn server(env: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Server, String> {
        let env: BTreeMap<&str, &str> = env.iter().copied().collect();
        let files: BTreeMap<PathBuf, &str> =
            files.iter().map(|(path, text)| (PathBuf::from(path), *text)).collect();
        find(&Sources {
            env: &|name| env.get(name).map(|value| (*value).to_owned()),
            read: &|path| Ok(files.get(path).map(|text| (*text).to_owned())),
            home: Some(Path::new("/home/u")),
        })
    }

    const KEYS: [(&str, &str); 2] =
        [("CLEARML_API_ACCESS_KEY", "AK"), ("TRAINS_API_SECRET_KEY", "s3cret")];

    #[test]
    fn variables_come_before_files_and_new_names_before_old_ones() {
        let file = "api { host: http://file:8008/, files_server: \"http://file:1/\"\n\
                    credentials { access_key: ${AK}, secret_key: b } }";
        let env = [("AK", "x"), ("CLEARML_API_HOST", ""), ("TRAINS_FILES_HOST", "http://env:2")];
        let found = server(&env, &[("/home/u/clearml.conf", file)]).unwrap();
        assert_eq!(
            (found.api.as_str(), &found.files[..]),
            ("http://file:8008", &["http://env:2".to_owned()][..])
        );
        assert_eq!(found.credentials, Credentials::Keys { access: "x".into(), secret: "b".into() });
        let old = "api { host = http://old, credentials { access_key = a, secret_key = b } }";
        let new = "api.api_server = http://new:8008";
        let both = [("/home/u/trains.conf", old), ("/home/u/clearml.conf", new)];
        assert_eq!(server(&[], &both).unwrap().api, "http://new:8008");
        let named = [("CLEARML_CONFIG_FILE", "~/trains.conf")];
        assert_eq!(server(&named, &both).unwrap().api, "http://old");
    }

    #[test]
    fn nothing_is_guessed_and_no_key_is_shown() {
        assert!(server(&KEYS, &[]).unwrap_err().contains("CLEARML_API_HOST"));
        let host = ("CLEARML_API_HOST", "http://h:8008");
        assert!(server(&[host, KEYS[1]], &[]).unwrap_err().contains("CLEARML_API_ACCESS_KEY"));
        let found = server(&[host, KEYS[0], KEYS[1]], &[]).unwrap();
        assert_eq!(found.files, ["http://h:8081"]);
        assert!(!format!("{found:?}").contains("s3cret"));
        let odd = ("CLEARML_API_HOST", "http://u:s3cret@h");
        let error = server(&[odd, KEYS[0], KEYS[1]], &[]).unwrap_err();
        assert!(
            error.contains("CLEARML_API_HOST: it must not contain") && !error.contains("s3cret")
        );
    }

    #[test]
    fn a_file_that_is_named_and_does_not_exist_is_named_where_something_is_missing() {
        let named = ("CLEARML_CONFIG_FILE", "/nope");
        let error = server(&[named], &[]).unwrap_err();
        assert!(error.starts_with("CLEARML_CONFIG_FILE names \"/nope\", which does not exist; "));
        let old = ("TRAINS_CONFIG_FILE", "/nope");
        assert!(server(&[old], &[]).unwrap_err().starts_with("TRAINS_CONFIG_FILE names \"/nope\""));
        let host = ("CLEARML_API_HOST", "http://h:8008");
        assert!(server(&[named, host, KEYS[0], KEYS[1]], &[]).is_ok(), "as for ClearML's clients");
    }

    #[test]
    fn a_file_that_can_be_read_once_is_enough() {
        let text = "api { host = http://h, credentials { access_key = a, secret_key = b } }";
        let pipe = std::cell::Cell::new(Some(text.to_owned()));
        let found = find(&Sources {
            env: &|name| (name == "CLEARML_CONFIG_FILE").then(|| "/dev/fd/63".to_owned()),
            read: &|_| Ok(Some(pipe.take().unwrap_or_default())),
            home: None,
        });
        assert_eq!(found.unwrap().api, "http://h");
    }

    #[test]
    fn a_wrong_file_is_named_with_its_line() {
        let error = server(&[], &[("/home/u/clearml.conf", "api {\n")]).unwrap_err();
        assert!(error.contains("\"/home/u/clearml.conf\", line 2"), "{error}");
    }
}
