//! The settings of `sweeper serve`: when to sweep what, and who is told.
//!
//! It must not apply the schedule: it reads it and refuses what cannot be one.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::values::Values;
use super::{ConfigError, Given, Origin};
use crate::retention::Zone;
use crate::service::agenda::{First, Plan};
use crate::service::schedule::{LocalTime, Rule};
use crate::units;

/// CVAT's own schedule, by zone; the temporary directories of instances go with the others.
const CVATS: [(Zone, &str); 3] =
    [(Zone::Export, "0 0,12 * * *"), (Zone::Tmp, "0 18 * * *"), (Zone::InstanceTmp, "0 18 * * *")];

/// What a service is to do.
#[derive(Debug, PartialEq)]
pub struct ServiceConfig {
    /// When to sweep what.
    pub plan: Plan,
    /// Whether to sweep at once, too.
    pub first: First,
    /// Where to show metrics and health.
    pub listen: Option<SocketAddr>,
    /// Where systemd wants to hear that it is ready.
    pub notify_socket: Option<String>,
    /// How often systemd wants to hear that it is alive.
    pub watchdog: Option<Duration>,
}

impl ServiceConfig {
    /// Resolves and checks what was given.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn resolve(given: &Given) -> Result<Self, ConfigError> {
        let values = Values::gather(given)?;
        let every = values.optional("every", |text| Rule::every(units::duration(text)?))?;
        let local = local_time(given)?;
        let own = own_schedules(&values, &local)?;
        let swept = values.zones()?;
        if let Some((zone, _)) = own.iter().find(|(zone, _)| !swept.contains(zone)) {
            let why = format!("{} is not among the zones that are swept", zone.name());
            return Err(values.wrong("schedule", why));
        }
        let mut zones = Vec::new();
        for zone in swept {
            let own = own.iter().rfind(|(of, _)| *of == zone).map(|(_, rule)| rule.clone());
            let default = CVATS.iter().find(|(of, _)| *of == zone).map(|(_, text)| *text);
            let rule = match (own.or_else(|| every.clone()), default) {
                (Some(rule), _) => rule,
                (None, Some(text)) => {
                    Rule::cron(text, &local).map_err(|why| values.wrong("schedule", why))?
                }
                (None, None) => continue,
            };
            zones.push((zone, rule));
        }
        let jitter = values.parsed("jitter", units::duration)?;
        Ok(Self {
            plan: Plan { zones, jitter },
            first: if values.switch("at_start")? { First::AtStart } else { First::WhenDue },
            listen: values.optional("listen", address)?,
            notify_socket: given.env("NOTIFY_SOCKET").cloned(),
            watchdog: watchdog(given),
        })
    }
}

/// The zone of `TZ`, else of the machine.
fn local_time(given: &Given) -> Result<LocalTime, ConfigError> {
    let Some(name) = given.env("TZ") else { return Ok(LocalTime::system()) };
    LocalTime::named(name).map_err(|why| ConfigError::Value {
        key: "TZ".to_owned(),
        value: name.clone(),
        origin: Origin::Env("TZ"),
        why,
    })
}

/// `export=0 0,12 * * *`, several in one text apart by semicolons.
fn own_schedules(values: &Values, local: &LocalTime) -> Result<Vec<(Zone, Rule)>, ConfigError> {
    let texts = values.texts("schedule").iter().flat_map(|text| text.split(';'));
    let mut rules = Vec::new();
    for text in texts.filter(|text| !text.trim().is_empty()) {
        let read = || {
            let (zone, cron) = text.split_once('=').ok_or("write it like export='0 0,12 * * *'")?;
            let zone = CVATS.iter().map(|(zone, _)| *zone).find(|of| of.name() == zone.trim());
            let zone = zone.ok_or("the zone is none of export, tmp, instance-tmp")?;
            Ok::<_, String>((zone, Rule::cron(cron.trim(), local)?))
        };
        rules.push(read().map_err(|why| values.wrong("schedule", why))?);
    }
    Ok(rules)
}

/// An address to listen at; a port alone is one of the loopback interface.
fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    match port.parse() {
        Ok(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Err(_) => {
            text.parse().map_err(|_| "write it like 9108, 0.0.0.0:9108 or [::]:9108".to_owned())
        }
    }
}

/// What systemd set for us, and not for a process that started us.
fn watchdog(given: &Given) -> Option<Duration> {
    let micros = given.env("WATCHDOG_USEC")?.parse().ok().filter(|micros| *micros > 0)?;
    let pid = given.env("WATCHDOG_PID");
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    is_ours.then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn resolve(
        flags: &[(&'static str, &str)],
        env: &[(&str, &str)],
    ) -> Result<ServiceConfig, String> {
        let mut given = Given::default();
        for (key, value) in flags {
            given.flags.entry(key).or_default().push((*value).to_owned());
        }
        given.env =
            env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>();
        ServiceConfig::resolve(&given).map_err(|error| error.to_string())
    }

    fn rules(config: &ServiceConfig) -> Vec<String> {
        config.plan.zones.iter().map(|(zone, rule)| format!("{} {rule}", zone.name())).collect()
    }

    #[test]
    fn the_schedule_is_cvats_unless_told_otherwise() {
        let utc = ("TZ", "Etc/UTC");
        let plain = resolve(&[], &[utc]).unwrap();
        assert_eq!(rules(&plain), ["export 0 0,12 * * *", "tmp 0 18 * * *"]);
        assert_eq!(
            (plain.first, plain.listen, plain.plan.jitter),
            (First::WhenDue, None, Duration::ZERO)
        );
        let every = resolve(&[("every", "6h"), ("schedule", "tmp=@weekly")], &[utc]).unwrap();
        assert_eq!(rules(&every), ["export every 21600 s", "tmp @weekly"]);
        let env = ("SWEEPER_SCHEDULE", "export=1 * * * *; tmp=2 * * * *;");
        assert_eq!(
            rules(&resolve(&[], &[utc, env]).unwrap()),
            ["export 1 * * * *", "tmp 2 * * * *"]
        );
        let tokyo = resolve(&[], &[("TZ", "Asia/Tokyo")]).unwrap();
        assert_ne!(tokyo.plan, plain.plan);
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_origin() {
        for (key, value, word) in [
            ("every", "0", "flag --every"),
            ("every", "1.5", "flag --every"),
            ("schedule", "0 0 * * *", "write it like"),
            ("schedule", "events=0 0 * * *", "none of export"),
            ("schedule", "export=soon", "flag --schedule"),
            ("schedule", "instance-tmp=0 0 * * *", "not among the zones"),
            ("jitter", "x", "flag --jitter"),
            ("listen", "everywhere", "write it like 9108"),
            ("listen", "99999", "write it like 9108"),
        ] {
            let error = resolve(&[(key, value)], &[]).unwrap_err();
            assert!(error.contains(word), "{key}={value}: {error}");
        }
        assert!(resolve(&[], &[("TZ", "Nowhere/Land")]).unwrap_err().contains("environment TZ"));
    }

    #[test]
    fn a_port_alone_is_the_loopback_interface() {
        for text in ["9108", ":9108", "127.0.0.1:9108"] {
            assert_eq!(address(text), Ok(([127, 0, 0, 1], 9108).into()), "{text}");
        }
        assert!(address("0.0.0.0:1").unwrap().ip().is_unspecified());
        assert!(address("[::]:1").unwrap().is_ipv6());
    }

    #[test]
    fn the_watchdog_is_ours_or_nobodys() {
        let pid = std::process::id().to_string();
        let of = |pid: &str| {
            resolve(&[], &[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", pid)]).unwrap().watchdog
        };
        assert_eq!((of(&pid), of("1")), (Some(Duration::from_secs(2)), None));
    }
}
