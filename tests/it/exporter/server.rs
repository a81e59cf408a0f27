//! A Redis server for one test, and pottery clients in Python processes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::start::Start;
use crate::wait::LIMIT;
use crate::world::is_present;

/// A port that leads to the server. When it is asked the time there, its clock is off by some seconds.
pub fn with_clock_off(redis: &Redis, seconds: i64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = redis.port;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || pass_on(client, to, seconds));
        }
    });
    port
}

/// Passes on one request and one answer at a time, as our client sends them. The answer to `TIME` is changed.
fn pass_on(mut client: TcpStream, to: u16, seconds: i64) -> Option<()> {
    let mut server = TcpStream::connect(("127.0.0.1", to)).ok()?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let asked = client.read(&mut buffer).ok().filter(|read| *read > 0)?;
        let is_time = buffer[..asked].windows(4).any(|word| word == b"TIME");
        server.write_all(&buffer[..asked]).ok()?;
        let said = server.read(&mut buffer).ok().filter(|read| *read > 0)?;
        let mut answer = buffer[..said].to_owned();
        if is_time {
            // *2\r\n$10\r\n<seconds>\r\n...
            let now: i64 = std::str::from_utf8(&answer[9..19]).ok()?.parse().ok()?;
            answer[9..19].copy_from_slice((now + seconds).to_string().as_bytes());
        }
        client.write_all(&answer).ok()?;
    }
}

/// Whether there are a `redis-server` and a Python with pottery. `tests/run` installs both, so there they
/// must exist. Elsewhere one line says what was left out.
fn has_both() -> bool {
    let has = |command: &mut Command| {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        quiet.ended().is_ok_and(|status| status.success())
    };
    let redis = has(Command::new("redis-server").arg("--version"));
    let pottery = has(Command::new(interpreter()).args(["-c", "import pottery, redis"]));
    is_present(redis, "redis-server: CVAT's own lock")
        && is_present(pottery, "the Python package pottery: CVAT's own lock")
}

pub fn interpreter() -> PathBuf {
    std::env::var_os("SWEEPER_TESTS_PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}

/// A Redis server, ended with the test.
pub struct Redis {
    child: Child,
    pub port: u16,
    password: Option<String>,
    args: Vec<String>,
}

impl Redis {
    /// Starts a server; `None` where it cannot be tested.
    pub fn start(args: &[&str]) -> Option<Self> {
        if !has_both() {
            return None;
        }
        // Another process could take the free port before the server does, so this is tried again.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            let child = Self::spawn(port, &args);
            let password = args.iter().position(|arg| arg == "--requirepass");
            let password = password.map(|at| args[at + 1].clone());
            let mut redis = Self { child, port, password, args };
            if redis.answers() {
                return Some(redis);
            }
        }
        panic!("no Redis server starts");
    }

    fn spawn(port: u16, args: &[String]) -> Child {
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--bind", "127.0.0.1"]);
        command.args(["--dir", "/tmp", "--port", &port.to_string()]).args(args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).start().unwrap()
    }

    fn answers(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return false;
            }
            // Another server may have taken the port first.
            let id = format!("process_id:{}\r", self.child.id());
            if self.cli(&["INFO", "server"]).contains(&id) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` prints.
    pub fn cli(&self, args: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string(), "--raw"]);
        if let Some(password) = &self.password {
            command.args(["--no-auth-warning", "-a", password]);
        }
        let output = command.args(args).finish().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// All keys there are.
    pub fn keys(&self) -> Vec<String> {
        assert_eq!(self.cli(&["PING"]).trim(), "PONG", "it answers");
        let keys = self.cli(&["KEYS", "*"]);
        keys.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Sets these keys, as if another process held the locks.
    pub fn lock_all(&self, keys: &[String]) {
        let script = "for _, key in ipairs(KEYS) do \
                      redis.call('SET', key, 'another-process', 'PX', 3600000) end";
        let count = keys.len().to_string();
        let args = ["EVAL", script, &count].into_iter();
        self.cli(&args.chain(keys.iter().map(String::as_str)).collect::<Vec<_>>());
        assert_eq!(self.keys().len(), keys.len());
    }

    /// Every command that the server receives while something happens.
    pub fn watch(&self, happens: impl FnOnce()) -> Vec<String> {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]);
        if let Some(password) = &self.password {
            command.args(["--no-auth-warning", "-a", password]);
        }
        let mut monitor = command.arg("MONITOR").stdout(Stdio::piped()).start().unwrap();
        let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "OK");
        happens();
        self.cli(&["ECHO", "the-end-of-the-watch"]);
        let mut all = Vec::new();
        for line in lines {
            let line = line.unwrap();
            if line.contains("the-end-of-the-watch") {
                break;
            }
            all.push(line);
        }
        monitor.kill().unwrap();
        monitor.wait().unwrap();
        all
    }

    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).ended().unwrap().success());
    }

    /// Kills the server, all its locks with it.
    pub fn die(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Kills the server and starts it again on the same port, empty.
    pub fn restart(&mut self) {
        self.die();
        self.child = Self::spawn(self.port, &self.args);
        assert!(self.answers());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.die();
    }
}

fn script(body: &str, redis: &Redis) -> String {
    let server = format!("{{redis.Redis(port={})}}", redis.port);
    let body = body.replace("{server}", &server);
    format!(
        "import sys, os, time, random, pottery, redis\npath = sys.argv[1]\n\
         lock = lambda ttl: pottery.Redlock(key='export_lock:' + path, masters={server}, auto_release_time=ttl)\n\
         {body}\n"
    )
}

/// Starts Python with pottery.
pub fn start_python(body: &str, redis: &Redis, path: &Path) -> Child {
    let mut command = Command::new(interpreter());
    command.arg("-c").arg(script(body, redis)).arg(path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap()
}

/// A pottery client that holds the lock of a path.
pub struct Pottery(Child, ChildStdin);

impl Pottery {
    /// Takes the lock with a TTL in seconds, and holds it until [`Self::release`] or until it expires.
    pub fn hold(redis: &Redis, path: &Path, ttl: u32) -> Self {
        let body = format!(
            "held = lock({ttl}); assert held.acquire(blocking=False)\nprint('held', flush=True)\n\
             sys.stdin.readline()\nheld.release()\nprint('released', flush=True)"
        );
        let mut child = start_python(&body, redis, path);
        let mut line = String::new();
        let stdin = child.stdin.take().unwrap();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "held");
        Self(child, stdin)
    }

    /// Releases the lock; returns what the client printed.
    pub fn release(mut self) -> String {
        writeln!(self.1).unwrap();
        let mut said = String::new();
        self.0.stdout.as_mut().unwrap().read_to_string(&mut said).unwrap();
        let mut error = String::new();
        self.0.stderr.as_mut().unwrap().read_to_string(&mut error).unwrap();
        format!("{}{}", said.trim(), error.trim())
    }
}

impl Drop for Pottery {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
