//! Servers that are no good Redis servers: one that answers as a test likes, and one that passes everything on
//! to a real server, slowly or with cuts.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::server::Redis;

/// What a fake server does about a command.
pub enum Answer {
    /// Sends this.
    Bytes(Vec<u8>),
    /// Sends this forever, with a pause between.
    Forever(Vec<u8>, Duration),
}

pub fn text(text: &str) -> Answer {
    Answer::Bytes(format!("${}\r\n{text}\r\n", text.len()).into_bytes())
}

pub fn line(line: &str) -> Answer {
    Answer::Bytes(format!("{line}\r\n").into_bytes())
}

/// A server that answers each command as `answer` says. Its URL.
pub fn serve(answer: impl Fn(&[String]) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || converse(client, &*answer));
        }
    });
    format!("redis://127.0.0.1:{port}")
}

/// What a good server answers to everything but scripts.
pub fn plain(command: &[String]) -> Answer {
    match command[0].as_str() {
        "PING" => line("+PONG"),
        "TIME" => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            Answer::Bytes(format!("*2\r\n$10\r\n{now}\r\n$1\r\n0\r\n").into_bytes())
        }
        "SCAN" => Answer::Bytes(b"*2\r\n$1\r\n0\r\n*0\r\n".to_vec()),
        _ => line("-ERR unknown command"),
    }
}

/// How many keys a script is about, and whether it takes their locks.
pub fn script(command: &[String]) -> Option<(usize, bool)> {
    (command[0] == "EVAL").then(|| (command[2].parse().unwrap(), command[1].contains("'SET'")))
}

/// Answers scripts as if all went well: each lock is granted, and each is released.
pub fn good(command: &[String]) -> Answer {
    match script(command) {
        Some((keys, _)) if command[1].contains("'DEL'") => line(&format!(":{keys}")),
        Some((keys, _)) => text(&"1".repeat(keys)),
        None => plain(command),
    }
}

fn converse(mut client: TcpStream, answer: &dyn Fn(&[String]) -> Answer) -> Option<()> {
    let mut received = Vec::new();
    loop {
        while let Some(command) = take_command(&mut received) {
            match answer(&command) {
                Answer::Bytes(bytes) => client.write_all(&bytes).ok()?,
                Answer::Forever(bytes, pause) => loop {
                    client.write_all(&bytes).ok()?;
                    std::thread::sleep(pause);
                },
            }
        }
        let mut buffer = vec![0; 65536];
        let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
        received.extend_from_slice(&buffer[..count]);
    }
}

/// The first whole command, as a list of arguments.
fn take_command(received: &mut Vec<u8>) -> Option<Vec<String>> {
    let mut at = 0;
    let number = |received: &[u8], at: &mut usize| {
        let end = *at + received[*at..].windows(2).position(|pair| pair == b"\r\n")?;
        let number =
            std::str::from_utf8(&received[*at + 1..end]).unwrap().parse::<usize>().unwrap();
        *at = end + 2;
        Some(number)
    };
    let count = number(received, &mut at)?;
    let mut command = Vec::new();
    for _ in 0..count {
        let length = number(received, &mut at)?;
        command.push(String::from_utf8_lossy(received.get(at..at + length)?).into_owned());
        at += length + 2;
    }
    (at <= received.len()).then(|| drop(received.drain(..at)))?;
    Some(command)
}

/// What happens when a client has asked for something, before the server gets it: told its number and how it begins.
type Happens = dyn Fn(usize, &[u8]) + Send + Sync;

/// How the keys of CVAT's locks begin.
const LOCK: &[u8] = b"redlock:export_lock:";

/// A way to a real server.
pub struct Way {
    pub url: String,
    /// How many times the client has asked for something.
    pub sent: Arc<AtomicUsize>,
    /// How many keys of locks were in that.
    pub keys: Arc<AtomicUsize>,
}

impl Way {
    /// Each answer takes this long.
    pub fn slow(redis: &Redis, delay: Duration) -> Self {
        Self::slow_while(redis, delay, |_, _| {})
    }

    /// The same, and this happens while the client waits for the answer to each of its questions.
    pub fn slow_while(
        redis: &Redis,
        delay: Duration,
        happens: impl Fn(usize, &[u8]) + Send + Sync + 'static,
    ) -> Self {
        Self::with(redis, delay, 0, Arc::new(happens))
    }

    /// The connection is lost when the first release was executed, and its answer with it.
    pub fn cut_at_the_first_release(redis: &Redis) -> Self {
        Self::with(redis, Duration::ZERO, 1, Arc::new(|_, _| {}))
    }

    fn with(redis: &Redis, delay: Duration, cuts: usize, happens: Arc<Happens>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (sent, keys, to) = (Arc::default(), Arc::default(), redis.port);
        let (counter, cuts) = (Arc::clone(&sent), Arc::new(AtomicUsize::new(cuts)));
        let key_counter = Arc::clone(&keys);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (counter, cuts) = (Arc::clone(&counter), Arc::clone(&cuts));
                let (happens, keys) = (Arc::clone(&happens), Arc::clone(&key_counter));
                std::thread::spawn(move || {
                    pass_on(&client, to, delay, [&counter, &keys], &cuts, &*happens)
                });
            }
        });
        Self { url, sent, keys }
    }
}

/// Passes on what a client sends, and what the server answers, until one of them ends or it is cut.
fn pass_on(
    client: &TcpStream,
    to: u16,
    delay: Duration,
    [sent, keys]: [&AtomicUsize; 2],
    cuts: &AtomicUsize,
    happens: &Happens,
) -> Option<()> {
    let server = TcpStream::connect(("127.0.0.1", to)).ok()?;
    let is_cut = AtomicBool::new(false);
    let end = || {
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = copy(&server, |answer| {
                std::thread::sleep(delay);
                let is_open = !is_cut.load(Ordering::SeqCst);
                is_open.then(|| (&*client).write_all(answer).ok())?
            });
            end();
        });
        let _ = copy(client, |asked| {
            // A long request may come in several parts, of which only the first begins like one.
            if asked.starts_with(b"*") {
                happens(sent.fetch_add(1, Ordering::SeqCst) + 1, asked);
            }
            let of_locks = asked.windows(LOCK.len()).filter(|word| *word == LOCK);
            keys.fetch_add(of_locks.count(), Ordering::SeqCst);
            let is_release = asked.windows(5).any(|word| word == b"'DEL'");
            let take = |left: usize| left.checked_sub(1);
            if is_release && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                is_cut.store(true, Ordering::SeqCst);
            }
            (&server).write_all(asked).ok()
        });
        end();
    });
    Some(())
}

fn copy(mut from: &TcpStream, mut each: impl FnMut(&[u8]) -> Option<()>) -> Option<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = from.read(&mut buffer).ok().filter(|count| *count > 0)?;
        each(&buffer[..count])?;
    }
}
