//! The scripts that take, compare, extend and release locks on the server, and what they answer.
//!
//! They must not delete or extend a key that does not hold the token, or set one that does not expire. A
//! single invalid key must not end a script for all the others.

use std::time::Duration;

use super::resp::{Command, Value};

/// Sets each key that does not exist to the token, with an expiry. Returns a character for each key, see
/// [`Grant`]. A batch that is requested again on a new connection may have been granted on the old one.
const TAKE: &str = "local taken = {}
for i, key in ipairs(KEYS) do
  local state = '1'
  if not redis.call('SET', key, ARGV[1], 'NX', 'PX', ARGV[2]) then
    local token = redis.pcall('GET', key)
    if type(token) == 'table' then
      if not string.find(token.err, 'WRONGTYPE', 1, true) then return token end
      state = 't'
    elseif token ~= ARGV[1] then
      state = redis.call('PTTL', key) == -1 and 'e' or '0'
    end
  end
  taken[i] = state
end
return table.concat(taken)";

/// Says of each key whether it still holds the token.
const COMPARE: &str = "local held = {}
for i, token in ipairs(redis.call('MGET', unpack(KEYS))) do
  held[i] = token == ARGV[1] and '1' or '0'
end
return table.concat(held)";

/// Says of each key whether it is a lock that another program than a sweeper holds now. A key without an expiry
/// is none: it may have been left there long ago.
const LIVE: &str = "local live = {}
for i, key in ipairs(KEYS) do
  local token = redis.call('MGET', key)[1]
  local is_other = token and string.sub(token, 1, #ARGV[1]) ~= ARGV[1]
  live[i] = is_other and redis.call('PTTL', key) > 0 and '1' or '0'
end
return table.concat(live)";

/// Deletes each key that still holds the token. Returns how many.
const RELEASE: &str = "local ours = {}
for i, token in ipairs(redis.call('MGET', unpack(KEYS))) do
  if token == ARGV[1] then ours[#ours + 1] = KEYS[i] end
end
if #ours == 0 then return 0 end
return redis.call('DEL', unpack(ours))";

/// Sets a new expiry if the key still holds the token, and takes the lock again if it is free.
const EXTEND: &str = "local token = redis.call('MGET', KEYS[1])[1]
if token == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0";

/// The result of a request for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// We hold it.
    Ours,
    /// Another process holds it, until it releases it or it expires.
    Locked,
    /// The key has no expiry, which no program sets: it may stay forever.
    Endless,
    /// The key holds something else than the text of a token.
    NotALock,
}

pub(super) fn take(keys: &[Vec<u8>], token: &str, ttl: Duration) -> Command {
    script(TAKE, keys).arg(token).number(millis(ttl))
}

pub(super) fn compare(keys: &[Vec<u8>], token: &str) -> Command {
    script(COMPARE, keys).arg(token)
}

pub(super) fn live(keys: &[Vec<u8>], token_prefix: &str) -> Command {
    script(LIVE, keys).arg(token_prefix)
}

pub(super) fn release(keys: &[Vec<u8>], token: &str) -> Command {
    script(RELEASE, keys).arg(token)
}

pub(super) fn extend(key: &[Vec<u8>; 1], token: &str, ttl: Duration) -> Command {
    script(EXTEND, key).arg(token).number(millis(ttl))
}

/// The answer to [`take`] for this many keys; `None` if it is not one.
pub(super) fn grants(answer: &Value, keys: usize) -> Option<Vec<Grant>> {
    characters(answer, keys)?.iter().map(|character| grant(*character)).collect()
}

/// The answer to [`compare`] or [`live`] for this many keys; `None` if it is not one.
pub(super) fn held(answer: &Value, keys: usize) -> Option<Vec<bool>> {
    let held = characters(answer, keys)?.iter().map(|character| match *character {
        b'1' => Some(true),
        b'0' => Some(false),
        _ => None,
    });
    held.collect()
}

fn characters(answer: &Value, keys: usize) -> Option<&[u8]> {
    answer.text().filter(|text| text.len() == keys)
}

const fn grant(character: u8) -> Option<Grant> {
    match character {
        b'1' => Some(Grant::Ours),
        b'0' => Some(Grant::Locked),
        b'e' => Some(Grant::Endless),
        b't' => Some(Grant::NotALock),
        _ => None,
    }
}

fn script(text: &str, keys: &[Vec<u8>]) -> Command {
    let script = Command::new("EVAL").arg(text).number(keys.len() as u64);
    keys.iter().fold(script, Command::arg)
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_not_understood_is_no_answer() {
        let text = |text: &str| Value::Text(text.into());
        let all = [Grant::Ours, Grant::Locked, Grant::Endless, Grant::NotALock];
        assert_eq!(grants(&text("10et"), 4), Some(all.to_vec()));
        for (answer, keys) in
            [(text("10"), 3), (text("12"), 2), (text("1x"), 2), (Value::Int(1), 1), (Value::Nil, 0)]
        {
            assert_eq!(grants(&answer, keys), None, "{answer:?}");
            assert_eq!(held(&answer, keys), None, "{answer:?}");
        }
        assert_eq!(held(&text("10"), 2), Some(vec![true, false]));
    }
}
