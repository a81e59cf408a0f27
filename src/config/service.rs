//! The settings of `sweeper serve`: when to sweep which zone, and where its state is shown.
//!
//! This module must not apply the schedule.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::origin::{ConfigError, Origin};
use super::raw::RawSettings;
use super::values::Values;
use super::words::Profile;
use super::zones::Zones;
use crate::cvat;
use crate::rules::{Zone, ZoneName};
use crate::service::schedule::{LocalTime, Rule};
use crate::service::scheduler::{First, Schedule};

/// What to write if it is not `ZONE=CRON`.
pub(super) const LIKE_A_SCHEDULE: &str = "write it like export='0 0,12 * * *'";

/// The settings of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceConfig {
    /// When to sweep which zone.
    rules: Vec<(ZoneName, ZoneRule)>,
    jitter: Duration,
    /// Why a service cannot start with these settings, which are right for other commands.
    obstacle: Option<ConfigError>,
    /// Whether to sweep at once, too.
    pub first: First,
    /// Where to serve metrics and health.
    pub listen: Option<SocketAddr>,
    /// Where systemd expects messages.
    pub notify_socket: Option<String>,
    /// How often systemd expects to hear from the service.
    pub watchdog: Option<Duration>,
}

/// When to sweep a zone.
#[derive(Debug, Clone, PartialEq)]
enum ZoneRule {
    /// As the settings say.
    Set(Rule),
    /// At CVAT's moments. They are read when a service starts: every command resolves the settings.
    OfCvat(&'static str, LocalTime),
}

impl ServiceConfig {
    /// When to sweep which zone.
    ///
    /// # Errors
    /// A zone has no schedule, or a setting is for single passes only.
    pub fn schedule(&self) -> Result<Schedule, ConfigError> {
        if let Some(obstacle) = &self.obstacle {
            return Err(obstacle.clone());
        }
        let read = |(name, rule): &(ZoneName, ZoneRule)| match rule {
            ZoneRule::Set(rule) => Ok((name.clone(), rule.clone())),
            ZoneRule::OfCvat(cron, local) => match Rule::cron(cron, local) {
                Ok(rule) => Ok((name.clone(), rule)),
                Err(why) => Err(ConfigError::Missing { key: "schedule", why }),
            },
        };
        let zones = self.rules.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Schedule { zones, jitter: self.jitter })
    }

    /// The time zone of log lines. That of the machine if `TZ` is wrong, because an error is about to be logged.
    pub fn log_time(raw: &RawSettings) -> LocalTime {
        local_time(raw).unwrap_or_else(|_| LocalTime::system())
    }

    pub(super) fn resolve(values: &mut Values<'_>, zones: &Zones) -> Result<Self, ConfigError> {
        let every = values.optional_duration("every")?;
        let every =
            every.map(|period| Rule::every(period).map_err(|why| values.wrong("every", why)));
        let every = every.transpose()?;
        let local = local_time(values.raw)?;
        let own = own_rules(values, zones, &local)?;
        let (mut rules, mut missing) = (Vec::new(), None);
        for zone in &zones.swept {
            match rule(values, zone, &own, every.as_ref(), &local) {
                Some(rule) => rules.push((zone.name.clone(), rule)),
                None => missing = missing.or(Some(&zone.name)),
            }
        }
        let obstacle = if let Some(name) = missing {
            let why = format!(
                "zone {:?} has no schedule: set every, or schedule {name}='0 3 * * *'",
                name.as_str()
            );
            Some(ConfigError::Missing { key: "schedule", why })
        } else {
            let why = "a list of paths is for a single pass, not for a service";
            values.text("from0").map(|_| values.wrong("from0", why))
        };
        let listen = values.shown_as("listen", address, |address| address.to_string())?;
        if values.origin("schedule") == Origin::Default && every.is_none() {
            let of_cvat = rules.iter().filter_map(|(name, rule)| match rule {
                ZoneRule::OfCvat(cron, _) => Some(format!("{name}={cron}")),
                ZoneRule::Set(_) => None,
            });
            values.show_list("schedule", of_cvat.collect(), Origin::Default);
        }
        Ok(Self {
            rules,
            jitter: values.duration("jitter")?,
            obstacle,
            first: if values.switch("at_start")? { First::AtStart } else { First::WhenDue },
            listen,
            notify_socket: values.raw.env("NOTIFY_SOCKET").map(str::to_owned),
            watchdog: watchdog(values.raw),
        })
    }
}

/// When to sweep a zone: its own schedule, or the common one, or CVAT's.
fn rule(
    values: &Values<'_>,
    zone: &Zone,
    own: &[(ZoneName, Rule)],
    every: Option<&Rule>,
    local: &LocalTime,
) -> Option<ZoneRule> {
    let own = own.iter().find(|(name, _)| *name == zone.name).map(|(_, rule)| rule);
    if let Some(rule) = own.or(every) {
        return Some(ZoneRule::Set(rule.clone()));
    }
    let of_cvat = cvat::schedule(zone.name.as_str()).filter(|_| values.profile == Profile::Cvat);
    of_cvat.map(|cron| ZoneRule::OfCvat(cron, local.clone()))
}

/// The time zone of `TZ`, or else of the machine.
fn local_time(raw: &RawSettings) -> Result<LocalTime, ConfigError> {
    let Some(name) = raw.env("TZ") else { return Ok(LocalTime::system()) };
    LocalTime::named(name).map_err(|why| ConfigError::Value {
        key: "TZ".to_owned(),
        value: name.to_owned(),
        origin: Origin::Env("TZ".to_owned()),
        why,
    })
}

/// The rules of `--schedule`.
fn own_rules(
    values: &Values<'_>,
    zones: &Zones,
    local: &LocalTime,
) -> Result<Vec<(ZoneName, Rule)>, ConfigError> {
    let mut rules: Vec<(ZoneName, Rule)> = Vec::new();
    for text in values.texts("schedule") {
        let read = || {
            let (word, cron) = text.split_once('=').ok_or(LIKE_A_SCHEDULE)?;
            let zone: Arc<Zone> = Zones::find(values, &zones.known, word.trim())?;
            let name = zone.name.clone();
            if !zones.swept.iter().any(|swept| swept.name == name) {
                return Err(format!("zone {:?} is not swept: add it to zones", name.as_str()));
            }
            if rules.iter().any(|(other, _)| *other == name) {
                return Err(format!("zone {:?} has two schedules", name.as_str()));
            }
            Ok((name, Rule::cron(cron.trim(), local)?))
        };
        let rule = read().map_err(|why| values.wrong_text("schedule", text, why))?;
        rules.push(rule);
    }
    Ok(rules)
}

/// An address to listen at; a port alone is one of the loopback interface.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let is_name =
        |host: &str| host.contains(|it: char| it.is_ascii_alphabetic()) && !host.contains(':');
    let named = text.rsplit_once(':').filter(|(host, _)| is_name(host));
    text.parse().map_err(|_| match named.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(port)) => format!(
            "write an address, not a name: {port} (this machine only) or 0.0.0.0:{port} (all interfaces)"
        ),
        _ => "write it like 9108, 0.0.0.0:9108 or [::]:9108".to_owned(),
    })
}

/// What systemd set for this process, and not for the one that started it.
fn watchdog(raw: &RawSettings) -> Option<Duration> {
    let micros = raw.env("WATCHDOG_USEC")?.parse().ok().filter(|micros| *micros > 0)?;
    let pid = raw.env("WATCHDOG_PID");
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    is_ours.then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, raw};
    use super::*;

    fn resolve(
        flags: &[(&'static str, &str)],
        env: &[(&str, &str)],
    ) -> Result<ServiceConfig, String> {
        let config = config(&raw(flags, env)).map_err(|error| error.to_string())?;
        config.service.map_err(|error| error.to_string())
    }

    fn rules(config: &ServiceConfig) -> Vec<String> {
        let schedule = config.schedule().unwrap();
        schedule.zones.iter().map(|(zone, rule)| format!("{zone} {rule}")).collect()
    }

    #[test]
    fn passes_follow_those_of_cvat_unless_another_schedule_is_set() {
        let utc = ("TZ", "Etc/UTC");
        let plain = resolve(&[], &[utc]).unwrap();
        assert_eq!(rules(&plain), ["export 30 0,12 * * *", "tmp 30 18 * * *"]);
        let jitter = plain.schedule().unwrap().jitter;
        assert_eq!((plain.first, plain.listen, jitter), (First::WhenDue, None, Duration::ZERO));
        let every = resolve(&[("every", "6h"), ("schedule", "tmp=@weekly")], &[utc]).unwrap();
        assert_eq!(rules(&every), ["export every 21600 s", "tmp @weekly"]);
        let env = ("SWEEPER_SCHEDULE", "export=1,2 * * * *; cron_tmp_directory_cleanup=2 * * * *;");
        assert_eq!(
            rules(&resolve(&[], &[utc, env]).unwrap()),
            ["export 1,2 * * * *", "tmp 2 * * * *"]
        );
        let all = resolve(&[("zones", "instance-tmp")], &[utc]).unwrap();
        assert_eq!(rules(&all), ["instance-tmp 30 18 * * *"]);
        let tokyo = resolve(&[], &[("TZ", "Asia/Tokyo")]).unwrap();
        assert_ne!(tokyo, plain);
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_origin() {
        for (key, value, word) in [
            ("every", "0", "flag --every"),
            ("every", "12", "write 12h for hours"),
            ("schedule", "0 0 * * *", "write it like"),
            ("schedule", "exprot=0 0 * * *", "did you mean export?"),
            ("schedule", "export=soon", "flag --schedule"),
            ("schedule", "instance-tmp=0 0 * * *", "is not swept"),
            ("schedule", "tmp=@daily;tmp=@weekly", "two schedules"),
            ("schedule", "legacy=@daily", "only by `sweeper legacy`"),
            ("jitter", "x", "flag --jitter"),
            ("listen", "everywhere", "write it like 9108"),
            ("listen", "99999", "write it like 9108"),
            ("listen", "::1:9108", "write it like 9108"),
            ("listen", "localhost:9108", "not a name: 9108 (this machine only) or 0.0.0.0:9108"),
        ] {
            let error = resolve(&[(key, value)], &[]).unwrap_err();
            assert!(error.contains(word), "{key}={value}: {error}");
        }
        assert!(resolve(&[], &[("TZ", "Nowhere/Land")]).unwrap_err().contains("environment TZ"));
    }

    #[test]
    fn a_list_of_paths_is_for_a_single_pass() {
        let config = resolve(&[], &[("SWEEPER_FROM0", "-")]).unwrap();
        let error = config.schedule().unwrap_err().to_string();
        assert!(error.contains("environment SWEEPER_FROM0"), "{error}");
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
    fn a_watchdog_of_another_process_is_ignored() {
        let pid = std::process::id().to_string();
        let of = |pid: &str| {
            let env = [("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", pid)];
            resolve(&[], &env).unwrap().watchdog
        };
        assert_eq!((of(&pid), of("1")), (Some(Duration::from_secs(2)), None));
    }
}
