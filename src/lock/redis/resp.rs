//! The protocol of Redis (RESP2): commands as bytes, and answers from bytes.
//!
//! This module must not read or send anything, or let a server decide how much memory an answer takes.

use std::io;

/// The longest answer. The greatest that is asked for is a thousand keys.
const LONGEST: usize = 8 << 20;

/// How deep the lists of an answer may be.
const DEEPEST: usize = 3;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(Vec<u8>),
    Int(i64),
    Nil,
    List(Vec<Value>),
    Error(Vec<u8>),
}

impl Value {
    pub(super) fn text(&self) -> Option<&[u8]> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) const fn int(&self) -> Option<i64> {
        if let Self::Int(int) = self { Some(*int) } else { None }
    }

    pub(super) fn list(&self) -> Option<&[Self]> {
        if let Self::List(list) = self { Some(list) } else { None }
    }

    pub(super) fn error(&self) -> Option<&[u8]> {
        if let Self::Error(text) = self { Some(text) } else { None }
    }
}

/// A command, as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Command {
    bytes: Vec<u8>,
    args: usize,
}

impl Command {
    pub(super) fn new(name: &str) -> Self {
        Self { bytes: Vec::new(), args: 0 }.arg(name)
    }

    #[must_use]
    pub(super) fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        let arg = arg.as_ref();
        self.bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        self.bytes.extend_from_slice(arg);
        self.bytes.extend_from_slice(b"\r\n");
        self.args += 1;
        self
    }

    pub(super) fn number(self, number: u64) -> Self {
        self.arg(number.to_string())
    }

    /// Adds it to what is sent.
    pub(super) fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(format!("*{}\r\n", self.args).as_bytes());
        bytes.extend_from_slice(&self.bytes);
    }
}

/// Reads one answer from the beginning of `bytes`: the answer, and how long it was. `None`: it is not
/// complete yet.
///
/// # Errors
/// It is no answer, or too long.
pub(super) fn decode(bytes: &[u8]) -> io::Result<Option<(Value, usize)>> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.value(0)?;
    if value.is_none() && bytes.len() > LONGEST {
        return Err(malformed(TOO_LONG));
    }
    Ok(value.map(|value| (value, reader.at)))
}

const TOO_LONG: &str = "it is too long";

fn malformed(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> io::Result<Option<Value>> {
        let Some(line) = self.line()? else { return Ok(None) };
        let Some((kind, rest)) = line.split_first() else { return Err(malformed("it is empty")) };
        Ok(match kind {
            b'+' => Some(Value::Text(rest.to_vec())),
            b'-' => Some(Value::Error(rest.to_vec())),
            b':' => Some(Value::Int(number(rest)?)),
            b'$' => match length(rest)? {
                None => Some(Value::Nil),
                Some(length) => self.bulk(length)?.map(Value::Text),
            },
            b'*' if depth < DEEPEST => match length(rest)? {
                None => Some(Value::Nil),
                Some(length) => self.list(length, depth)?.map(Value::List),
            },
            _ => return Err(malformed("it does not follow the protocol")),
        })
    }

    /// The text up to the end of the line, which is skipped.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        /// The longest line: an error can quote a part of a script.
        const LONGEST_LINE: usize = 64 << 10;
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.windows(2).take(LONGEST_LINE).position(|pair| pair == b"\r\n") else {
            return if rest.len() > LONGEST_LINE { Err(malformed(TOO_LONG)) } else { Ok(None) };
        };
        self.at += end + 2;
        Ok(Some(rest[..end].to_vec()))
    }

    fn bulk(&mut self, length: usize) -> io::Result<Option<Vec<u8>>> {
        let end = self.at + length;
        let Some(text) = self.bytes.get(self.at..end) else { return Ok(None) };
        let Some(after) = self.bytes.get(end..end + 2) else { return Ok(None) };
        if after != b"\r\n" {
            return Err(malformed("it does not follow the protocol"));
        }
        self.at = end + 2;
        Ok(Some(text.to_vec()))
    }

    fn list(&mut self, length: usize, depth: usize) -> io::Result<Option<Vec<Value>>> {
        let mut list = Vec::new();
        for _ in 0..length {
            let Some(value) = self.value(depth + 1)? else { return Ok(None) };
            list.push(value);
        }
        Ok(Some(list))
    }
}

fn number(text: &[u8]) -> io::Result<i64> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| malformed("a number is missing in it"))
}

/// A length that is announced; `None` for -1, which stands for no value.
fn length(text: &[u8]) -> io::Result<Option<usize>> {
    match number(text)? {
        -1 => Ok(None),
        number => match usize::try_from(number) {
            Ok(length) if length <= LONGEST => Ok(Some(length)),
            Ok(_) => Err(malformed(TOO_LONG)),
            Err(_) => Err(malformed("it contains a negative length")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn commands_are_written_as_the_protocol_demands() {
        let mut bytes = b"before".to_vec();
        Command::new("SET").arg(b"k\xff").arg("").number(30).append_to(&mut bytes);
        let expected = b"before*4\r\n$3\r\nSET\r\n$2\r\nk\xff\r\n$0\r\n\r\n$2\r\n30\r\n";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn answers_are_read_when_they_are_complete_and_not_before() {
        let nested = Value::List(vec![text("0"), Value::List(vec![text("a\r\nb"), Value::Nil])]);
        for (bytes, value) in [
            (&b"+PONG\r\n"[..], text("PONG")),
            (b"-ERR no\r\n", Value::Error(b"ERR no".into())),
            (b":-1\r\n", Value::Int(-1)),
            (b"$-1\r\n", Value::Nil),
            (b"*-1\r\n", Value::Nil),
            (b"$0\r\n\r\n", text("")),
            (b"*2\r\n$1\r\n0\r\n*2\r\n$4\r\na\r\nb\r\n$-1\r\n", nested),
        ] {
            for end in 0..bytes.len() {
                assert_eq!(decode(&bytes[..end]).unwrap(), None, "{bytes:?} up to {end}");
            }
            let more = [bytes, b"+OK\r\n"].concat();
            assert_eq!(decode(&more).unwrap(), Some((value, bytes.len())), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_answer_or_too_long_is_an_error_before_it_is_read() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\r\n",
            b":one\r\n",
            b"$-2\r\n",
            b"$2000000000\r\n",
            b"*2000000000\r\n",
            b"$9999999999999999999\r\n",
            b"$1\r\nab\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
            b"%1\r\n",
        ] {
            let error = decode(bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
        assert!(decode(&vec![b'+'; 1 << 20]).is_err(), "a line without an end");
        let many = [b"*8000000\r\n".to_vec(), b"$1\r\na\r\n".repeat(2 << 20)].concat();
        assert!(decode(&many).is_err(), "a list without an end");
    }
}
